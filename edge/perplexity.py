"""The evaluate job of a decoder: the loss of a version on the tokens of texts that were kept back.

Sums over texts are told, and no text itself. Beside those of the loss they are what the error of a ratio needs: the
loss of a token is the sum of losses over that of tokens (Cochran, Sampling Techniques, 1977, section 2.11).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.data.row import Row
from edge.runner import Runner
from edge.training.blocks import Blocks
from edge.training.passing import Passing
from wire.adapter import Adapter
from wire.scores import Score, Tokens


class Judged:
    """Texts to judge versions by, prepared once.

    Args:
        runner: of a decoder that learns.
        rows: passages; those without a token to predict do not count.

    Raises:
        BadData: the bundle has another loss, or no tokenizer.
    """

    def __init__(self, runner: Runner, rows: Sequence[Row]) -> None:
        self._passing = Passing(runner, backward=False)
        self._blocks: Blocks | None = self._passing.blocks([row.sample for row in rows]) if rows else None
        self._first: dict[int, NDArray[np.float64]] = {}  # by rank: the losses of the first version

    def score(self, adapter: Adapter, version: str, rank: int) -> Score:
        """What a version says of the texts at a rank; the first one that is judged is what others are paired with."""
        if self._blocks is None or not len(self._blocks):
            return Score(version, rank, (), (), tokens=Tokens())
        rows = range(len(self._blocks))
        losses, right = self._passing.losses(self._blocks, rows, adapter)
        counts = np.array([self._blocks.targets([row]) for row in rows], np.float64)
        apart = losses - self._first.setdefault(rank, losses)
        told = Tokens(
            len(rows),
            int(counts.sum()),
            int(right.sum()),
            float(losses.sum()),
            float(apart @ apart),
            float(apart @ counts),
            float(counts @ counts),
        )
        return Score(version, rank, (), (), tokens=told)
