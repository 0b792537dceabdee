"""Secure aggregation: sums over boards of which the hub sees nothing but the sum."""
