"""The brokers that a hub can start by itself, and what a foreign one must be told."""
