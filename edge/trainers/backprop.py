"""Backpropagation behind the interface of trainers: gradients of backward graphs, summed over ghost batches, clipped.

The step is `edge.trainers.ghost` (arXiv 1705.08741) and an optimizer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from console.errors import BadData
from edge.trainers.ghost import clipped, mean_of
from edge.trainers.interface import Arrays, Factors, Needs, Optimizer, Rows, State, Stepped
from wire.optimizers import Adam32


@dataclass(frozen=True)
class Backprop:
    """A trainer of `names`; its state is the optimizer's.

    Attributes:
        names: which arrays.
        optimizer: takes the gradient.
        clip: the largest norm of a gradient over all arrays.
    """

    names: tuple[str, ...]
    optimizer: Optimizer = field(default_factory=Adam32)
    clip: float = math.inf

    @property
    def needs(self) -> Needs:
        """One run of the backward graph for each ghost batch."""
        return "backward"

    def slower(self, share: float) -> Backprop:
        """The same with a share of its rate."""
        return replace(self, optimizer=self.optimizer.slower(share))

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The state before the first step."""
        return self.optimizer.begin({name: arrays[name] for name in self.names})

    def step(self, arrays: Arrays, state: State, rows: Rows) -> Stepped:
        """One step on some rows; arrays that their graph has no gradient of stay as they are.

        Raises:
            NotFinite: the loss or a gradient.
        """
        if rows.gradients is None:
            raise BadData("expected a backward graph, found none; export with --mode train or choose another trainer")
        loss, found = mean_of(rows.gradients(arrays))
        gradients, _ = clipped({name: found[name] for name in self.names if name in found}, self.clip)
        made, kept = self.optimizer.apply(arrays, state, gradients)
        return Stepped(made, kept, loss)

    def update(self, arrays: Arrays, state: State) -> Factors:
        """The arrays as trained."""
        return Factors({name: arrays[name] for name in self.names}, self.names)
