"""A front that learns alone, against a head of its own at the border, and meets its tail once.

Decoupled greedy learning (Belilovsky, Eickenberg and Oyallon, "Decoupled greedy learning of CNNs", ICML 2020, arXiv
1901.08164, algorithm 1) with two pieces and one exchange: the front steps on the loss of an auxiliary head (section
3.2: the mean over positions, then a linear layer); then what it makes of the rows goes up once, with their labels, and
the tail learns from that. Nothing comes back, so a slow link holds up no step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.chain import Chain
from edge.data.row import Row
from edge.gradients import GRAD, LABELS, Gradients
from edge.runner import Runner
from edge.split.differences import Differences
from edge.split.front import room_of
from edge.split.softmax import BIAS, WEIGHT, turned
from edge.split.talk import Talk
from edge.training.heads import closed_head
from wire.adapter import Adapter
from wire.borders import Border
from wire.bundle import Bundle
from wire.kinds.head import Head

Array = NDArray[Any]


class Alone(Chain):
    """Runs a front to its own head and back; `head` must be set before gradients are asked for."""

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 1,
        providers: tuple[str, ...] = (),
        differences: Differences | None = None,
    ) -> None:
        super().__init__(bundle, threads, providers, room_of(bundle.manifest))
        self.border, self.differences = border_with_features(bundle), differences
        self.within_bytes = bundle.manifest.plan.budget_bytes
        self.head: Head | None = None
        self.seen: list[tuple[Array, Array, Array]] | None = None  # where features are gathered: with labels, weights

    def gradients(self, batches: Sequence[Mapping[str, Array]], bucket: str, shared: Mapping[str, Array]) -> Gradients:
        """Loss and gradients of the front and of its head, summed over the rows of all micro-batches."""
        values, sums, which = [dict(batch) for batch in batches], Gradients(), range(len(self.manifest.segments))
        first = 0 if self.differences is None else self.differences.first(self.manifest)
        self.up(values, bucket, shared, which[:first], LABELS)
        began = [dict(value) for value in values]
        self.up(values, bucket, shared, which[first:], {*self.border.tensors, *LABELS})
        cotangents = [self._seeds(value, sums) for value in values]
        if self.seen is None and self.differences is not None:
            self.differences.add(self, began, bucket, shared, cotangents, sums)
        elif self.seen is None:
            self.down(values, bucket, shared, cotangents, sums, which)
        self.settle()
        return sums

    def _seeds(self, value: Mapping[str, Array], sums: Gradients) -> dict[str, Array]:
        """The gradient of the border of a micro-batch."""
        border, whole = self.border, value[self.border.features]
        axes = tuple(axis for axis in range(1, whole.ndim) if axis != border.features_axis)
        features = whole.mean(axis=axes)
        if self.seen is not None:
            self.seen.append((features, value["labels"], value["weights"]))
        if self.head is None:
            return {}
        made = turned(features, self.head, value["labels"], value["weights"])
        sums.loss += made.loss
        for name, gradient in ((WEIGHT, made.weight), (BIAS, made.bias)):
            sums.add(name, gradient)
        share = np.float32(1 / np.prod([whole.shape[axis] for axis in axes], dtype=np.float64))
        spread = np.expand_dims(made.features * share, axes)
        return {GRAD + border.features: np.broadcast_to(spread, whole.shape).astype(np.float32)}


class Once(Chain):
    """Runs a front to its border, which goes up; nothing comes back but that it was taken."""

    def __init__(self, bundle: Bundle, talk: Talk, threads: int = 1, providers: tuple[str, ...] = ()) -> None:
        super().__init__(bundle, threads, providers, room_of(bundle.manifest))
        self.within_bytes = bundle.manifest.plan.budget_bytes
        self.talk = talk

    def gradients(self, batches: Sequence[Mapping[str, Array]], bucket: str, shared: Mapping[str, Array]) -> Gradients:
        """The loss of the tail, and no gradient."""
        values, which, sums = [dict(batch) for batch in batches], range(len(self.manifest.segments)), Gradients()
        self.up(values, bucket, shared, which, {*self.talk.wanted, *LABELS})
        sent = [self.talk.forth(value, bucket) for value in values]
        sums.loss = sum(self.talk.back(micro, ())[0] for micro in sent)
        self.settle()
        return sums


def border_with_features(bundle: Bundle) -> Border:
    """Where a head of the board's own may go on.

    Raises:
        BadData: the export names no such place, or rows have no class each.
    """
    split = bundle.manifest.split
    border = None if split is None else split.borders[0]
    if border is None or not border.features:
        raise BadData("expected a border with features for a head of the board's own, found none; train step by step")
    if not bundle.manifest.labels:
        raise BadData("expected classes for a head of the board's own, found a decoder; train step by step")
    return border


def first_head(runner: Runner, front: Alone, adapter: Adapter, rows: Sequence[Row]) -> Head:
    """The head at the border before the first step, in closed form from some rows."""
    front.seen = []
    runner.gradients(rows, adapter)
    real = [(features[weights > 0], labels[weights > 0]) for features, labels, weights in front.seen]
    front.seen = None
    features, labels = (np.concatenate([pair[side] for pair in real]) for side in (0, 1))
    return closed_head(features, labels, len(front.manifest.labels)).head
