"""Whether the board has time to train: what it senses, what it was told, and the decision between the two."""
