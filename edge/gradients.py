"""Gradients of some rows, as sums, and the names by which graphs make them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
GRAD = "grad."
LOSS = "loss"
LABELS = ("labels", "weights")


@dataclass
class Gradients:
    """Sums over the rows of all micro-batches: the loss, and a gradient per input that learns."""

    loss: float = 0.0
    by_input: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def add(self, name: str, value: Array) -> None:
        """Add a micro-batch's gradient."""
        if name in self.by_input:
            self.by_input[name] += value
        else:
            self.by_input[name] = np.array(value, dtype=np.float32)

    def merge(self, other: Gradients) -> None:
        """Add the sums over other rows."""
        self.loss += other.loss
        for name, value in other.by_input.items():
            self.add(name, value)
