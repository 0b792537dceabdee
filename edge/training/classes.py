"""The task of labelled rows: factors, biases and the head of an adapter learn from rows with a class each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.data import Row
from edge.runner import Ready, Runner
from edge.trainers.interface import Array, Arrays, Gradients, Rows
from edge.training.learned import learned, reheaded, relearned, with_head
from edge.training.losses import cross_entropy, score_of
from edge.training.task import Score
from wire.adapter import Adapter


class Classes:
    """Rows of a board, some of them kept back.

    Args:
        runner: of the bundle.
        adapter: where to start; it is not changed, and what is not trained stays as it is.
        train: rows to learn from.
        kept_back: rows to judge by.
        head: whether the adapter's head learns too.
        backward: whether the bucket of the backward graphs is used; else that of the forward graphs.
        micro_batch: rows of a backward graph's run; None takes the plan's.

    Raises:
        BadData: no rows; nothing that could learn; a sample is not what the bundle takes.
    """

    def __init__(
        self,
        runner: Runner,
        adapter: Adapter,
        train: Sequence[Row],
        kept_back: Sequence[Row] = (),
        *,
        head: bool = False,
        backward: bool = True,
        micro_batch: int | None = None,
    ) -> None:
        if not train:
            raise BadData("expected rows to train on, found none; give the board data or a smaller hold-out")
        self.runner, self._adapter, self._head, self._backward = runner, adapter, head, backward
        if not head and not learned(runner.manifest, adapter):
            raise BadData("expected a version with directions to train, found rank 0; export with --mode train")
        self._train, self._kept_back = train, kept_back
        self._micro_batch = micro_batch
        self._ready: Ready | None = None
        self._judged: Ready | None = None

    def __len__(self) -> int:
        return len(self._train)

    def start(self) -> dict[str, Array]:
        """The arrays of the adapter that learn: copies."""
        arrays = learned(self.runner.manifest, self._adapter)
        return {**arrays, **with_head(self.runner.manifest, self._adapter)} if self._head else arrays

    def rows(self, chosen: Sequence[int]) -> Rows:
        """Losses, gradients and features of some rows."""
        ready, labels = self._prepared(), np.array([self._train[i].label for i in chosen], np.int64)
        pairs = [(i, int(label)) for i, label in zip(chosen, labels, strict=True)]

        def loss(arrays: Arrays) -> float:
            found = self.runner.forward(ready.part(chosen), self.adapter(arrays))
            return float(np.mean(cross_entropy(found.logits, labels)))

        def gradients(arrays: Arrays) -> list[Gradients]:
            sums = self.runner.gradients(ready, self.adapter(arrays), pairs)
            return [Gradients(sums.loss, sums.by_input, len(pairs))]

        def features() -> tuple[Array, NDArray[np.float64]]:
            found = self.runner.forward(ready.part(chosen), self._adapter).features
            return found, np.eye(len(self.runner.manifest.labels))[labels]

        return Rows(loss, gradients if self._backward else None, features)

    @property
    def truncated(self) -> int:
        """Texts and sounds that are too long."""
        return self._prepared().truncated

    def _prepared(self) -> Ready:
        if self._ready is None:
            samples = [row.sample for row in self._train]
            micro_batch = self._micro_batch if self._backward else None
            self._ready = self.runner.ready(samples, training=self._backward, micro_batch=micro_batch)
        return self._ready

    def score(self, arrays: Arrays) -> Score | None:
        """Loss and right answers on the rows that were kept back."""
        if not self._kept_back:
            return None
        if self._judged is None:
            self._judged = self.runner.ready([row.sample for row in self._kept_back])
        logits = self.runner.forward(self._judged, self.adapter(arrays)).logits
        return score_of(logits, np.array([row.label for row in self._kept_back], np.int64))

    def adapter(self, arrays: Arrays) -> Adapter:
        """The adapter with these arrays."""
        made = relearned(self.runner.manifest, self._adapter, arrays)
        return reheaded(self.runner.manifest, made, arrays) if self._head else made
