"""Quantized nodes of written graphs against numpy arithmetic on the bytes that they read."""
