"""An adapter out of the pieces that a version names: the rungs that a rank needs, cut to it, and the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from console.errors import BadData, join
from wire.adapter import Adapter, read_adapter
from wire.kinds.lora import concatenate


def assemble(model: str, version: str, rungs: Sequence[bytes], head: bytes | None, rank: int) -> Adapter:
    """Put the rungs of a ladder together, in order.

    Args:
        model: the model's id.
        version: digest of the version that names the rungs.
        rungs: adapter files of directions low to high - 1, from 0 on without a gap.
        head: adapter file of the heads, or None.
        rank: how many directions to keep.

    Raises:
        BadData: a file is not an adapter, or the rungs have different slots.
    """
    read = [read_adapter(data, f"a rung of version {version[:12]}").lora for data in rungs]
    slots = {slot for rung in read for slot in rung}
    problems = [f"slot {slot} is not in every rung" for slot in sorted(slots) if not all(slot in r for r in read)]
    if problems:
        raise BadData(f"expected rungs of one ladder in version {version[:12]}, but {join(problems)}")
    lora = {slot: concatenate([r[slot] for r in read]).prefix(rank) for slot in (read[0] if read else {})}
    heads = {} if head is None else read_adapter(head, f"the heads of version {version[:12]}").heads
    return Adapter(model, version, lora, heads=heads)


def prefix(adapter: Adapter, rank: int) -> Adapter:
    """The adapter with its first `rank` directions."""
    return replace(adapter, lora={slot: factors.prefix(rank) for slot, factors in adapter.lora.items()})
