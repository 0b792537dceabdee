"""Model in, bundles out: capture, slots, cost, cut, quantize, differentiate, verify, write."""
