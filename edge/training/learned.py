"""An adapter as arrays that learn, and back: two factors per slot, and the changes of biases."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from console.errors import BadData
from edge.trainers.interface import Array, Arrays
from wire.adapter import Adapter
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.manifest import Head as HeadRecord
from wire.manifest import Manifest

Factors = Literal["both", "a", "b"]


def resting(manifest: Manifest, factors: Factors) -> set[str]:
    """The graph inputs of the factor that does not learn; none if both do."""
    rests = {"both": (), "a": ("b",), "b": ("a",)}[factors]
    return {str(getattr(slot, factor)) for slot in manifest.slots_of("lora") for factor in rests}


def learned(manifest: Manifest, adapter: Adapter) -> dict[str, Array]:
    """Copies of what an adapter brings to slots, by graph input; factors of rank 0 are nothing."""
    arrays: dict[str, Array] = {}
    for name, lora in adapter.lora.items():
        if lora.rank:
            slot = manifest.slot(name)
            arrays[slot.a], arrays[slot.b] = lora.a.copy(), lora.b.copy()
    for name, delta in adapter.bias.items():
        arrays[manifest.slot(name, "bias").bias] = delta.copy()
    return arrays


def relearned(manifest: Manifest, adapter: Adapter, arrays: Arrays) -> Adapter:
    """The adapter with these arrays in place of its own; scales, heads and metadata stay."""
    lora = dict(adapter.lora)
    for name, factors in adapter.lora.items():
        slot = manifest.slot(name)
        if slot.a in arrays:
            lora[name] = Lora(arrays[slot.a], arrays[slot.b], factors.scale)
    biases = {name: arrays[manifest.slot(name, "bias").bias] for name in adapter.bias}
    return replace(adapter, lora=lora, bias=biases)


def with_head(manifest: Manifest, adapter: Adapter) -> dict[str, Array]:
    """Copies of the head's arrays by graph input: the adapter's own, or zeros where it has none.

    Raises:
        BadData: the model was exported without a head.
    """
    record = head_of(manifest)
    if adapter.head is not None:
        return {record.weight: adapter.head.weight.copy(), record.bias: adapter.head.bias.copy()}
    classes = len(manifest.labels)
    return {
        record.weight: np.zeros((record.features, classes), np.float32),
        record.bias: np.zeros(classes, np.float32),
    }


def reheaded(manifest: Manifest, adapter: Adapter, arrays: Arrays) -> Adapter:
    """The adapter with these arrays as its head."""
    record = head_of(manifest)
    return replace(adapter, heads={adapter.rank: Head(arrays[record.weight], arrays[record.bias])})


def head_of(manifest: Manifest) -> HeadRecord:
    """Where the head is.

    Raises:
        BadData: the model was exported without one.
    """
    if manifest.head is None:
        raise BadData("expected a bundle with a head, found none; export with --labels or --data")
    return manifest.head
