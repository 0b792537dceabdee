"""The task of a front whose board keeps its labels: rows with a class each, and a head of the board's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from edge.data.row import Row
from edge.runner import Runner
from edge.split.softmax import BIAS, WEIGHT
from edge.trainers.interface import Array, Arrays, Gradients, Rows
from edge.training.classes import Classes
from wire.adapter import Adapter
from wire.kinds.head import Head


class HasHead(Protocol):
    """A chain that goes through a head of the board's."""

    head: Head | None


class Headed(Classes):
    """As `Classes`, with the head among the arrays, whether it learns or not."""

    def __init__(self, runner: Runner, front: HasHead, adapter: Adapter, head: Head, rows: Sequence[Row]) -> None:
        super().__init__(runner, adapter, rows)
        self._front, self._began = front, head

    def start(self) -> dict[str, Array]:
        """The arrays of the adapter that learn, and the head's: copies."""
        return {**super().start(), WEIGHT: self._began.weight.copy(), BIAS: self._began.bias.copy()}

    def rows(self, chosen: Sequence[int]) -> Rows:
        """Gradients of some rows; the head that they go through is that of the arrays."""
        inner = super().rows(chosen).gradients

        def gradients(arrays: Arrays) -> list[Gradients]:
            self._front.head = Head(np.asarray(arrays[WEIGHT]), np.asarray(arrays[BIAS]))
            return [] if inner is None else inner(arrays)

        return Rows(gradients=gradients)

    def adapter(self, arrays: Arrays) -> Adapter:
        """The adapter with these arrays, and the head."""
        made = super().adapter(arrays)
        return replace(made, heads={made.rank: Head(arrays[WEIGHT], arrays[BIAS])})
