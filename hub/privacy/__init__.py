"""Differential privacy of boards: clipping, noise and what is spent (docs/privacy.md)."""
