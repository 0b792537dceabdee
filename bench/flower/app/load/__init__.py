"""Runs inside Flower's own environment."""
