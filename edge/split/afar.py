"""A board with a front whose rows go to its tail and come back as features: forward alone, for what needs no more.

To whoever asks for features (`edge.features`) it is a runner as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edge.runner import Array, Output, Ready, Runner
from edge.split.front import room_of
from edge.split.talk import Talk
from wire.adapter import Adapter
from wire.inputs import inputs_of
from wire.manifest import Bucket


class Afar(Runner):
    """Every call of `forward` is one pass, in the order in which the job names ranks; `talk` must be open."""

    def __init__(self, runner: Runner, talk: Talk) -> None:
        own = runner.chain
        super().__init__(runner.bundle, own.threads, runner.frugal, runner.window_bytes, own.providers)
        self.chain.room_bytes, self.chain.within_bytes = room_of(self.manifest), self.manifest.plan.budget_bytes
        self.talk = talk

    def ready(self, samples: Sequence[Any], *, training: bool = False, micro_batch: int | None = None) -> Ready:
        """Prepare samples in the micro-batches for which both halves have graphs: those of training."""
        return super().ready(samples, training=True, micro_batch=micro_batch)

    def forward(
        self,
        samples: Sequence[Any] | Ready,
        adapter: Adapter | None = None,
        advance: Callable[[int], None] = lambda n: None,
    ) -> Output:
        """Features [n, D] of samples, plain or prepared; no logits, since the head is not here.

        Raises:
            PeerGone: the tail is not heard.
        """
        ready = samples if isinstance(samples, Ready) else self.ready(samples)
        shared, features = inputs_of(self.manifest, adapter), np.zeros((len(ready), self.talk.width), np.float32)

        def run(bucket: Bucket, batches: list[dict[str, Array]]) -> list[Array]:
            return self._through(bucket, batches, shared)

        for chosen, found in self.passed(ready, run, advance):
            features[chosen] = found[: len(chosen)]
        self.talk.stepped(0, 1.0)
        return Output(features, np.zeros((len(ready), 0), np.float32))

    def _through(self, bucket: Bucket, batches: list[dict[str, Array]], shared: dict[str, Array]) -> list[Array]:
        """Micro-batches to the border and beyond; the tail works on one while the next is on its way."""
        chain, talk, last, sent = self.chain, self.talk, len(self.manifest.segments) - 1, list[int]()
        chain.up(batches, bucket.name, shared, range(last), talk.wanted)
        for value in batches:
            chain.up([value], bucket.name, shared, range(last, last + 1), talk.wanted)
            sent.append(talk.forth(value, bucket.name))
            value.clear()
        chain.settle()
        return [talk.features(micro) for micro in sent]

    def _window_rows(self, bucket: Bucket) -> int:
        """One segment, too, is asked for several micro-batches at a time: the way to the tail takes time."""
        return self._held_rows(bucket)
