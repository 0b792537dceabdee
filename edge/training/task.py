"""What a session trains: rows that answer trainers, arrays that learn, and how good they are on rows kept back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.trainers.interface import Array, Arrays, Rows
from wire.adapter import Adapter


@dataclass(frozen=True)
class Score:
    """Of rows that were kept back: their mean loss, and how many of them are right.

    >>> Score(0.5, 3, 4).share
    0.75
    """

    loss: float
    right: int
    rows: int

    @property
    def share(self) -> float:
        """Right ones among the rows; 0 without rows."""
        return self.right / self.rows if self.rows else 0.0


class Task(Protocol):
    """Something to learn on a bundle. Its rows are numbered from 0; arrays are keyed by the graphs' inputs."""

    def __len__(self) -> int:
        """Rows to train on."""

    @property
    def truncated(self) -> int:
        """How many of them are too long for their bucket and lose their end."""

    def start(self) -> dict[str, Array]:
        """The arrays that learn, as they are before the first step."""

    def rows(self, chosen: Sequence[int]) -> Rows:
        """What trainers may ask of some rows.

        Raises:
            BadData: a row cannot be read.
        """

    def score(self, arrays: Arrays) -> Score | None:
        """How good arrays are on rows kept back; None where there are none."""

    def adapter(self, arrays: Arrays) -> Adapter:
        """What goes into a file."""
