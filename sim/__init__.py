"""A whole fleet on one machine, and the demonstration."""
