"""Releases of the agent itself: which one starts, whether it is healthy, how another takes its place."""
