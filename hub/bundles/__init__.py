"""What the hub serves to boards beside messages: bundles, and which device gets which."""
