"""From what a round counts to a version."""
