"""What a graph is fed beside the samples: which bucket, and an adapter's arrays under the names of the graph inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, join
from wire.adapter import Adapter
from wire.manifest import Bucket, Manifest, Segment

Array = NDArray[Any]


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


def _largest(manifest: Manifest, kind: str, segments: Sequence[Segment], otherwise: str) -> Bucket:
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
        raise BadData(f"expected an adapter for {manifest.model.id}, but {join(problems)}")
