"""A task without a bundle: rows are noisy looks at a quadratic, so what every step does is known."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.trainers.interface import Array, Arrays, Gradients, Rows
from edge.training.task import Score
from wire.adapter import Adapter

SIZE = 6


@dataclass
class Quadratic:
    """Row i wants `x` at target i: its loss is half the squared distance.

    Attributes:
        count: rows.
        broken: rows whose loss is no number.
        scores: losses that looks find, in turn; the last one stays. None: no rows are kept back.
        asked: every batch, in order.
    """

    count: int = 12
    broken: Collection[int] = ()
    scores: Sequence[float] | None = None
    seen: list[NDArray[Any]] = field(default_factory=list)
    asked: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    @property
    def truncated(self) -> int:
        """None is too long."""
        return 0

    @property
    def targets(self) -> NDArray[np.float64]:
        """float64 [count, SIZE]."""
        return np.random.default_rng(3).normal(1.0, 0.1, (self.count, SIZE))

    def start(self) -> dict[str, Array]:
        """Zeros."""
        return {"x": np.zeros(SIZE, np.float32)}

    def rows(self, chosen: Sequence[int]) -> Rows:
        """Loss and gradient of some rows."""
        self.asked.append(list(chosen))
        targets = self.targets[list(chosen)]
        lost = np.nan if any(row in self.broken for row in chosen) else 0.0

        def loss(arrays: Arrays) -> float:
            return float(0.5 * np.mean(np.sum((arrays["x"] - targets) ** 2, axis=1)) + lost)

        def gradients(arrays: Arrays) -> list[Gradients]:
            g = (arrays["x"] - targets).sum(axis=0).astype(np.float32)
            return [Gradients(loss(arrays) * len(chosen), {"x": g}, len(chosen))]

        return Rows(loss, gradients)

    def score(self, arrays: Arrays) -> Score | None:
        """The next of the scores."""
        if self.scores is None:
            return None
        self.seen.append(arrays["x"].copy())
        return Score(self.scores[min(len(self.seen), len(self.scores)) - 1], 1, 2)

    def adapter(self, arrays: Arrays) -> Adapter:
        """Nothing that a file would hold."""
        return Adapter("none")
