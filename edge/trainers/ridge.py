"""A linear head in closed form, from sums over rows: no learning rate, no steps, and a sample can be taken out again.

Ridge regression with high-order regularization (`wire.ridge`, arXiv 2505.08129). What this trainer knows of rows are
sums that add over boards and can be taken apart again (`wire.sums`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.trainers.interface import Additive, Arrays, Needs, Rows, State, Stepped
from wire.sums import Sums, empty, gather, on_grid, packed, unpacked


@dataclass(frozen=True)
class Ridge:
    """A trainer of heads; its state and its update are the sums `upper`, `right` and `squares`.

    Attributes:
        features: how many.
        outputs: how many; for classes, targets are 1 for a row's class and 0 else.
        grid: features are rounded to multiples of it, a power of two, so that sums are exact; 0: as they are.
    """

    features: int
    outputs: int
    grid: float = 2.0**-12

    @property
    def needs(self) -> Needs:
        """One run of the feature graph."""
        return "features"

    def slower(self, share: float) -> Ridge:
        """The same: there is no rate."""
        return self

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Sums over no rows; the arrays are not looked at."""
        return packed(empty(self.features, self.outputs))

    def step(self, arrays: Arrays, state: State, rows: Rows) -> Stepped:
        """Add some rows; there is no loss."""
        return Stepped(dict(arrays), packed(unpacked(state) + self._sums(rows)), None)

    def remove(self, arrays: Arrays, state: State, rows: Rows) -> Stepped:
        """Take rows out that were added before.

        Raises:
            BadData: more than there are.
        """
        return Stepped(dict(arrays), packed(unpacked(state) - self._sums(rows)), None)

    def update(self, arrays: Arrays, state: State) -> Additive:
        """The sums."""
        return Additive(packed(unpacked(state)))

    def _sums(self, rows: Rows) -> Sums:
        if rows.features is None:
            raise BadData("expected a graph that gives features, found none; export the bundle with a head")
        features, targets = rows.features()
        if not np.all(np.isfinite(features)):
            raise BadData("expected finite features, found others; these rows were left out")
        return gather(on_grid(features, self.grid) if self.grid else features, targets)
