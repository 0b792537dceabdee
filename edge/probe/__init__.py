"""`edgequilt devices probe`: what the board is that this runs on, and what nodes take there (docs/probe.md)."""
