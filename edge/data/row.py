"""A sample with its label, and which samples are kept back.

A fixed share of the rows is kept back for evaluation and never trained on. Which rows: decided by the SHA-256 of
the row itself, so the same row stays on the same side when the file grows or is shuffled.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

KEPT_BACK = 0.1  # share of the rows, where nobody says another


@dataclass(frozen=True)
class Row:
    """A sample (a text, a passage, or a picture's path, Pillow image or array) and the index of its label."""

    sample: Any
    label: int


@dataclass(frozen=True)
class Data:
    """Rows to learn from, and rows that were kept back."""

    train: tuple[Row, ...]
    holdout: tuple[Row, ...]

    @property
    def all(self) -> tuple[Row, ...]:
        """Every row of the file."""
        return self.train + self.holdout


def is_held_out(content: str, label: str, share: float) -> bool:
    """Whether a row is kept back.

    >>> is_held_out("a", "b", 0.0), is_held_out("a", "b", 1.0)
    (False, True)
    """
    sha = hashlib.sha256(json.dumps([content, label], ensure_ascii=False).encode()).digest()
    return int.from_bytes(sha[:6], "big") / 2**48 < share
