"""Bundles on their way into use, struck by whatever can strike."""
