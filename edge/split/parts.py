"""Which part of an adapter of the whole model belongs to a half of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from wire.adapter import Adapter
from wire.manifest import Manifest


def part_of(manifest: Manifest, adapter: Adapter, segments: Iterable[str] | None = None) -> Adapter:
    """What an adapter brings to the slots of some segments, and its head where theirs is.

    Args:
        manifest: of a front, of a tail's bundle, or of any other.
        adapter: of the whole model.
        segments: their names; None: all of the manifest.
    """
    names = {s.name for s in manifest.segments} if segments is None else set(segments)
    lora = {slot.name for slot in manifest.slots_of("lora") if slot.segment in names}
    bias = {slot.name for slot in manifest.slots_of("bias") if slot.segment in names}
    ends = manifest.head is not None and manifest.head.segment in names
    return replace(
        adapter,
        lora={name: factors for name, factors in adapter.lora.items() if name in lora},
        bias={name: change for name, change in adapter.bias.items() if name in bias},
        heads=adapter.heads if ends else {},
    )
