"""Accuracy on real data, per trainer and rows."""
