"""One training step of ours beside torch + PEFT: what it takes and how long it lasts."""
