"""Rows in, numbers out: micro-batches of one bucket, padded where the last is short.

A padding row repeats a real one and has weight 0, so it changes neither the loss nor a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.chain import Chain, Gradients
from edge.data import Row
from edge.preprocess import preprocessor
from wire.adapter import Adapter
from wire.bundle import Bundle
from wire.manifest import Bucket, Head, Manifest, Tensor

Array = NDArray[Any]
WINDOW_BYTES = 8 << 20  # boundaries held at once when many rows go through several segments
_ITEM_BYTES = {"int64": 8, "float64": 8, "int8": 1, "uint8": 1, "bool": 1, "float16": 2}


@dataclass(frozen=True)
class Output:
    """features float32 [n, D] and logits float32 [n, classes] of n rows; None where the model has none."""

    features: NDArray[np.float32]
    logits: NDArray[np.float32]


class Runner:
    """A checked bundle, ready to run. Adapters are arguments: a runner holds none."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.bundle = bundle
        self.chain = Chain(bundle, threads)
        self._prepare = preprocessor(bundle)

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
        if self.manifest.head is None:
            raise BadData("expected a bundle with a head, found none; export with --labels or --data")
        return self.manifest.head

    def forward(
        self, samples: Sequence[Any], adapter: Adapter | None = None, advance: Callable[[int], None] = lambda n: None
    ) -> Output:
        """Features [n, D] and logits [n, classes] of samples."""
        head = self.head
        bucket = forward_bucket(self.manifest)
        shared = feeds_of(self.manifest, adapter)
        wanted = (head.features_output, head.logits_output)
        parts: list[dict[str, Array]] = []
        for window in _windows(samples, bucket.batch, self._window_rows(bucket)):
            batches = [self._tensors(part, bucket)[0] for part in _windows(window, bucket.batch, bucket.batch)]
            parts += self.chain.forward(batches, bucket.name, shared, wanted)
            advance(len(window))
        classes = len(self.manifest.labels)
        empty = (np.zeros((0, head.features), np.float32), np.zeros((0, classes), np.float32))
        features, logits = (
            np.concatenate([p[name] for p in parts])[: len(samples)] if parts else none
            for name, none in zip(wanted, empty, strict=True)
        )
        return Output(features, logits)

    def gradients(self, rows: Sequence[Row], adapter: Adapter) -> Gradients:
        """Loss and gradients summed over rows: one entry per adapter input of the graph."""
        bucket = training_bucket(self.manifest)
        batches = []
        for part in _windows(rows, bucket.batch, bucket.batch):
            tensors, weights = self._tensors([r.sample for r in part], bucket)
            labels = np.zeros(bucket.batch, np.int64)
            labels[: len(part)] = [r.label for r in part]
            batches.append({**tensors, "labels": labels, "weights": weights})
        return self.chain.gradients(batches, bucket.name, feeds_of(self.manifest, adapter))

    def _tensors(self, samples: Sequence[Any], bucket: Bucket) -> tuple[dict[str, Array], Array]:
        """The input tensors of at most `batch` samples, filled up, and the weights [batch] of their rows."""
        padding = bucket.batch - len(samples)
        tensors = {
            name: np.concatenate([value, np.repeat(value[-1:], padding, axis=0)]) if padding else value
            for name, value in self._prepare(samples, bucket).items()
        }
        weights = np.zeros(bucket.batch, np.float32)
        weights[: len(samples)] = 1
        return tensors, weights

    def _window_rows(self, bucket: Bucket) -> int:
        segments = self.manifest.segments
        if len(segments) == 1:
            return bucket.batch
        tensors = {
            t.name: t for s in segments for g in s.graphs if g.bucket == bucket.name for t in (*g.inputs, *g.outputs)
        }
        crossing = max(sum(_bytes(tensors[n]) for n in s.inputs if n in tensors) for s in segments)
        return max(1, WINDOW_BYTES // max(1, crossing)) * bucket.batch

    def close(self) -> None:
        """Give the sessions' memory back."""
        self.chain.close()


def forward_bucket(manifest: Manifest) -> Bucket:
    """The bucket for inference: the largest that every segment has a forward graph for.

    Raises:
        BadData: there is none.
    """
    return _largest(manifest, "forward", manifest.segments, "the model can only be trained")


def training_bucket(manifest: Manifest) -> Bucket:
    """The bucket of the plan's micro-batch, or the largest that the last segment has a backward graph for.

    Raises:
        BadData: the bundle cannot be trained.
    """
    last = manifest.segments[-1:]
    for bucket in manifest.buckets:
        kinds = {(g.kind, g.bucket) for g in last[0].graphs}
        if bucket.batch == manifest.plan.micro_batch and ("backward", bucket.name) in kinds:
            return bucket
    return _largest(manifest, "backward", last, "export with --mode train")


def _largest(manifest: Manifest, kind: str, segments: Sequence[Any], otherwise: str) -> Bucket:
    served = [{g.bucket for g in s.graphs if g.kind == kind} for s in segments]
    fitting = [b for b in manifest.buckets if all(b.name in names for names in served)]
    if not fitting:
        raise BadData(f"expected {kind} graphs for one bucket in the bundle, found none; {otherwise}")
    return max(fitting, key=lambda b: (b.batch, b.sequence or 0))


def feeds_of(manifest: Manifest, adapter: Adapter | None) -> dict[str, Array]:
    """The adapter's arrays under the names of the graph inputs; what is absent keeps its default.

    Raises:
        BadData: a slot that the model does not have, or factors of another shape.
    """
    if adapter is None:
        return {}
    check_adapter(manifest, adapter)
    feeds: dict[str, Array] = {}
    for name, lora in adapter.lora.items():
        slot = manifest.slot(name)
        feeds[slot.a], feeds[slot.b], feeds[slot.scale] = lora.a, lora.b, np.asarray(lora.scale, np.float32)
    if adapter.head is not None and manifest.head is not None:
        feeds[manifest.head.weight], feeds[manifest.head.bias] = adapter.head.weight, adapter.head.bias
    return feeds


def check_adapter(manifest: Manifest, adapter: Adapter) -> None:
    """Compare an adapter with the model.

    Raises:
        BadData: naming every slot that differs.
    """
    slots = {s.name: s for s in manifest.slots}
    problems = [f"slot {name} is not in the model" for name in adapter.lora if name not in slots]
    for name, lora in adapter.lora.items():
        slot = slots.get(name)
        if slot is not None and (len(lora.a), lora.b.shape[1]) != (slot.features_in, slot.features_out):
            problems.append(
                f"slot {name} needs {slot.features_in} x {slot.features_out}, not {len(lora.a)} x {lora.b.shape[1]}"
            )
    if adapter.head is not None and manifest.head is not None:
        expected = (manifest.head.features, len(manifest.labels))
        if adapter.head.weight.shape != expected:
            problems.append(f"the head needs {expected}, not {adapter.head.weight.shape}")
    if adapter.model != manifest.model.id:
        problems.append(f"it belongs to model {adapter.model}")
    if problems:
        raise BadData(f"expected an adapter for {manifest.model.id}, but {'; '.join(problems[:20])}")


def _windows(items: Sequence[Any], batch: int, size: int) -> Iterator[Sequence[Any]]:
    step = max(batch, size)
    for start in range(0, len(items), step):
        yield items[start : start + step]


def _bytes(tensor: Tensor) -> int:
    sizes = [d for d in tensor.shape if isinstance(d, int)]
    return int(np.prod(sizes, dtype=np.int64)) * _ITEM_BYTES.get(tensor.dtype, 4)
