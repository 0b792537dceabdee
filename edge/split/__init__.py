"""One half of a model's training on this board, the other elsewhere (docs/split.md)."""
