"""Rows in, numbers out: micro-batches of a bucket, the last of a smaller one or filled up where it is short.

A row that fills up repeats a real one and has weight 0, so it changes neither the loss nor a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.chain import Chain
from edge.data import Row
from edge.feeds import by_bucket, forward_bucket, smaller_buckets, training_bucket
from edge.gradients import Gradients
from edge.preprocess import Part, Prepared, preprocessor
from edge.training.learned import head_of
from wire.adapter import Adapter
from wire.bundle import Bundle
from wire.inputs import changes_layers, inputs_of
from wire.manifest import Bucket, Head, Manifest, Tensor

Array = NDArray[Any]
Found = TypeVar("Found")
WINDOW_BYTES = 2 << 20  # boundaries held at once when many rows go through several segments
MASK = "attention_mask"
SORTED = 32  # micro-batches whose texts are sorted by length
_ITEM_BYTES = {"int64": 8, "float64": 8, "int8": 1, "uint8": 1, "bool": 1, "float16": 2}


@dataclass(frozen=True)
class Output:
    """features float32 [n, D] and logits float32 [n, classes] of n rows."""

    features: NDArray[np.float32]
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class Ready:
    """Samples that are prepared for a bucket; `smaller` are others that some of them may go through instead."""

    bucket: Bucket
    samples: Prepared
    smaller: tuple[Bucket, ...] = ()

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """All of them, the largest first."""
        return (self.bucket, *self.smaller)

    @property
    def by_length(self) -> bool:
        """Whether there are buckets for shorter texts."""
        return len({bucket.sequence for bucket in self.buckets}) > 1

    def lengths(self, indexes: Sequence[int]) -> list[int] | None:
        """Tokens of some samples, up to the last that is no padding; None where all buckets are of one length."""
        mask = self.samples.take(indexes).get(MASK) if self.by_length else None
        if mask is None:
            return None
        return [int(np.flatnonzero(row)[-1]) + 1 if row.any() else 0 for row in mask]

    @property
    def truncated(self) -> int:
        """How many samples lost their end because they are longer than the bucket."""
        return self.samples.truncated

    def __len__(self) -> int:
        return len(self.samples)

    def part(self, chosen: Sequence[int]) -> Ready:
        """Some of the samples, in that order."""
        return Ready(self.bucket, Part(self.samples, tuple(chosen)), self.smaller)


class Runner:
    """A checked bundle, ready to run. Adapters are arguments: a runner holds none.

    A `frugal` runner trades time for memory (a worker's way): it never loads the tokenizer itself.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 1,
        frugal: bool = False,
        window_bytes: int = WINDOW_BYTES,
        providers: tuple[str, ...] = (),
    ) -> None:
        self.bundle, self.frugal, self.window_bytes = bundle, frugal, window_bytes
        self.chain = Chain(bundle, threads, providers)
        self._preprocessor = preprocessor(bundle, frugal)

    @property
    def manifest(self) -> Manifest:
        """What is run."""
        return self.bundle.manifest

    @property
    def head(self) -> Head:
        """Where the head is.

        Raises:
            BadData: the model was exported without one.
        """
        return head_of(self.manifest)

    def ready(
        self,
        samples: Sequence[Any],
        *,
        training: bool = False,
        micro_batch: int | None = None,
    ) -> Ready:
        """Prepare samples, for `forward` or for `gradients`.

        Args:
            samples: texts, pictures or arrays.
            training: for `gradients`.
            micro_batch: the largest to train with; None: by the plan (`edge.feeds`).

        Raises:
            BadData: a sample is not what the bundle takes, or there are no graphs of that micro-batch.
        """
        m = self.manifest
        bucket = training_bucket(m, micro_batch) if training else forward_bucket(m)
        smaller = smaller_buckets(m, bucket, training=training)[1:]
        return Ready(bucket, self._preprocessor.prepare(samples, bucket), smaller)

    def forward(
        self,
        samples: Sequence[Any] | Ready,
        adapter: Adapter | None = None,
        advance: Callable[[int], None] = lambda n: None,
    ) -> Output:
        """Features [n, D] and logits [n, classes] of samples, plain or prepared."""
        ready = samples if isinstance(samples, Ready) else self.ready(samples)
        head = self.head
        wanted, shared = (head.features_output, head.logits_output), inputs_of(self.manifest, adapter)
        count, bare = len(ready), not changes_layers(adapter)
        features = np.zeros((count, head.features), np.float32)
        logits = np.zeros((count, len(self.manifest.labels)), np.float32)

        def run(bucket: Bucket, batches: list[dict[str, Array]]) -> list[dict[str, Array]]:
            return self.chain.forward(batches, bucket.name, shared, wanted, bare=bare)

        for chosen, values in self.passed(ready, run, advance):
            for into, name in zip((features, logits), wanted, strict=True):
                into[chosen] = values[name][: len(chosen)]
        return Output(features, logits)

    def passed(
        self,
        ready: Ready,
        run: Callable[[Bucket, list[dict[str, Array]]], list[Found]],
        advance: Callable[[int], None],
    ) -> Iterator[tuple[list[int], Found]]:
        """What becomes of prepared samples, window after window: which ones a micro-batch holds, and what `run` made.

        Args:
            ready: the samples.
            run: is given micro-batches of a bucket.
            advance: told how many more samples are done.
        """
        count, bucket = len(ready), ready.bucket
        step = self._window_rows(bucket)
        if ready.by_length:  # texts are sorted by length within a window, and every window loads graphs anew
            step = max(step, bucket.batch * SORTED)
        for start in range(0, count, step):
            window = range(start, min(count, start + step))
            for part, places in _by_bucket(ready, window):
                rows = [[window[k] for k in chosen] for chosen in places]
                yield from zip(rows, run(part, [_filled(ready, part, some)[0] for some in rows]), strict=True)
            advance(len(window))

    def gradients(
        self, rows: Sequence[Row] | Ready, adapter: Adapter, chosen: Sequence[tuple[int, int]] | None = None
    ) -> Gradients:
        """Loss and gradients summed over rows: one entry per adapter input of the graphs.

        Args:
            rows: rows; or prepared samples, of which `chosen` names index and label.
            adapter: factors and head.
            chosen: which of the prepared samples; not needed with rows.
        """
        if isinstance(rows, Ready):
            ready, pairs = rows, list(chosen or [])
        else:
            ready = self.ready([r.sample for r in rows], training=True)
            pairs = [(i, r.label) for i, r in enumerate(rows)]
        shared, sums = inputs_of(self.manifest, adapter), Gradients()
        for bucket, found in _by_bucket(ready, [index for index, _ in pairs]):
            together = 1 if len(self.manifest.segments) == 1 else len(found)  # one segment needs no other's boundaries
            for start in range(0, len(found), together):
                parts = found[start : start + together]
                batches = [_labelled(ready, bucket, [pairs[k] for k in part]) for part in parts]
                sums.merge(self.chain.gradients(batches, bucket.name, shared))
        return sums

    def window_batches(self, bucket: Bucket) -> int:
        """How many micro-batches go through the segments together, so that their boundaries do not take too much."""
        return self._window_rows(bucket) // bucket.batch

    def _window_rows(self, bucket: Bucket) -> int:
        return bucket.batch if len(self.manifest.segments) == 1 else self._held_rows(bucket)

    def _held_rows(self, bucket: Bucket) -> int:
        """Of how many rows what segments take may be held at once."""
        segments = self.manifest.segments
        tensors = {
            t.name: t for s in segments for g in s.graphs if g.bucket == bucket.name for t in (*g.inputs, *g.outputs)
        }
        made = {lookup.input for table in self.manifest.tables for lookup in table.lookups}  # of ids, when it is read
        crossing = max(sum(_bytes(tensors[n]) for n in s.inputs if n in tensors and n not in made) for s in segments)
        return max(1, self.window_bytes // max(1, crossing)) * bucket.batch

    def close(self) -> None:
        """Give the sessions' memory back."""
        self.chain.close()


def _by_bucket(ready: Ready, indexes: Sequence[int]) -> list[tuple[Bucket, list[list[int]]]]:
    """Places among `indexes` of samples, in micro-batches by their bucket."""
    return by_bucket(len(indexes), ready.buckets, ready.lengths(indexes))


def _labelled(ready: Ready, bucket: Bucket, pairs: Sequence[tuple[int, int]]) -> dict[str, Array]:
    tensors, weights = _filled(ready, bucket, [index for index, _ in pairs])
    labels = np.zeros(bucket.batch, np.int64)
    labels[: len(pairs)] = [label for _, label in pairs]
    return {**tensors, "labels": labels, "weights": weights}


def _filled(ready: Ready, bucket: Bucket, indexes: Sequence[int]) -> tuple[dict[str, Array], Array]:
    """The tensors of at most `batch` samples, filled up with the last one, and the weights [batch] of the rows."""
    missing = bucket.batch - len(indexes)
    weights = np.ones(bucket.batch, np.float32)
    weights[len(indexes) :] = 0
    tensors = ready.samples.take([*indexes, *([indexes[-1]] * missing)])
    if bucket.sequence != ready.bucket.sequence:  # padding is on the right, or no shorter bucket would hold them
        tensors = {name: array[:, : bucket.sequence] for name, array in tensors.items()}
    return tensors, weights


def _bytes(tensor: Tensor) -> int:
    sizes = [d for d in tensor.shape if isinstance(d, int)]
    return int(np.prod(sizes, dtype=np.int64)) * _ITEM_BYTES.get(tensor.dtype, 4)
