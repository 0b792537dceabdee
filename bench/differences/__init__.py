"""What a front that runs forward only learns, and what it takes (docs/split.md)."""
