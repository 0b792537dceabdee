"""An adapter out of the pieces that a version names: the rungs that a rank needs, cut to it, the head and its edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from console.errors import BadData, IntegrityError, join
from edge.request import needed_blobs
from wire.adapter import Adapter, read_adapter
from wire.files import digest, read_bytes
from wire.kinds.edit import apply
from wire.kinds.lora import concatenate
from wire.messages import Version


def assemble(
    model: str,
    version: str,
    rungs: Sequence[bytes],
    head: bytes | None,
    rank: int,
    others: bytes | None = None,
    edits: Sequence[bytes] = (),
) -> Adapter:
    """Put the rungs of a ladder together, in order.

    Args:
        model: the model's id.
        version: digest of the version that names the rungs.
        rungs: adapter files of directions low to high - 1, from 0 on without a gap.
        head: adapter file of the heads, or None.
        rank: how many directions to keep.
        others: adapter file of the other kinds, or None.
        edits: adapter files of edits, which go on top of the heads.

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
    rest = Adapter(model) if others is None else read_adapter(others, f"the other kinds of version {version[:12]}")
    on_top = [read_adapter(data, f"an edit of version {version[:12]}").edits for data in edits]
    return Adapter(model, version, lora, rest.bias, apply(heads, on_top), scales=rest.scales)


def read_version(blobs: Path, name: str, version: Version, rank: int) -> Adapter:
    """The adapter of a version whose blobs are in a folder, at a rank.

    Raises:
        StorageError: a blob is not there.
        IntegrityError: a blob has another SHA-256.
        BadData: the blobs are not what the version says.
    """
    read = []
    for blob, _ in needed_blobs(version, rank):
        data = read_bytes(blobs / blob, "a blob of a version")
        if digest(data) != blob:
            raise IntegrityError(f"expected blob {blob[:12]} with its own SHA-256, found other bytes; fetch it again")
        read.append(data)
    edits = [read.pop() for _ in version.edits][::-1]
    others = read.pop() if version.others else None
    head = read.pop() if version.head else None
    return assemble(version.model, name, read, head, rank, others, edits)


def prefix(adapter: Adapter, rank: int) -> Adapter:
    """The adapter with its first `rank` directions."""
    return replace(adapter, lora={slot: factors.prefix(rank) for slot, factors in adapter.lora.items()})
