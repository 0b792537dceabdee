"""What the hub tells people."""
