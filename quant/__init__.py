"""Number formats: choose scales, quantize, pack, measure the loss."""
