"""Fixes: one wrong answer made right on all boards by a few kilobytes, and taken back by one command."""
