"""A decoder that trains within a board's memory: what a step takes of it, and how long it lasts, by trainer."""
