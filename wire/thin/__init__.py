"""Thin updates: what a board learned, as differences to what it was sent, in fewer bytes (docs/adapter.md)."""
