"""Texts to learn from, made offline: sentences of plain words, long enough to fill a row of bytes."""

from __future__ import annotations

import numpy as np

SUBJECTS = ("the old keeper", "a small boat", "my neighbour", "the night train", "her brother", "one of the gulls")
VERBS = ("waited for", "passed", "talked about", "remembered", "walked around", "looked at")
OBJECTS = ("the harbour", "a red bicycle", "the empty market", "the lamp by the door", "the first snow", "the river")
ENDINGS = ("before it grew dark", "as if nothing had happened", "until the bells rang", "and said no word")


def sentences(count: int, seed: int = 0) -> list[str]:
    """So many texts of two sentences, 100 letters or more each; the same for the same seed.

    >>> sentences(2) == sentences(2), min(map(len, sentences(50))) >= 64
    (True, True)
    """
    drawn = np.random.default_rng(seed)

    def sentence() -> str:
        return " ".join(str(drawn.choice(part)) for part in (SUBJECTS, VERBS, OBJECTS, ENDINGS)).capitalize() + "."

    return [f"{sentence()} {sentence()}" for _ in range(count)]
