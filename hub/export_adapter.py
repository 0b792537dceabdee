"""A version as a folder that PEFT loads into the original model, with the head beside it (`wire.peft`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from console.errors import HubError, StorageError
from hub import versions
from hub.registry import Home, model
from hub.requests.versions import version_digest
from wire.files import write_atomic
from wire.kinds.head import pick
from wire.peft import CONFIG, files_of


def export_adapter(home: Home, wanted: str, rank: int | None, base: str, out: Path) -> dict[str, Any]:
    """Write `adapter_config.json`, `adapter_model.safetensors`, and if there is a head its two files.

    Args:
        home: the hub's folder, opened.
        wanted: a number, `tip` or `released`.
        rank: how many directions of the ladder; None for all.
        base: what PEFT is told that the adapter belongs to.
        out: a folder that does not hold an adapter yet.

    Raises:
        HubError: there is no such version, or the ladder is shorter.
        BadData: a slot has no counterpart in PEFT.
        StorageError: the folder holds an adapter, or cannot be written.
    """
    known = model(home)
    if known is None:
        raise HubError("expected a model, found none; add a bundle with `edgequilt hub add BUNDLE`")
    if (out / CONFIG).exists():
        raise StorageError(f"expected no adapter in {out}, found one; choose another folder")
    row = home.ledger.version(version_digest(home, wanted))
    if row is None:
        raise HubError(f"expected version {wanted} in the ledger, found none")
    version = versions.read_made(row).version
    rank = version.rank if rank is None else rank
    if not 1 <= rank <= version.rank:
        raise HubError(f"expected a rank of 1 to {version.rank}, found {rank}")
    ladder = versions.read_ladder(version, home.blobs, rank)
    head = pick(versions.read_heads(version, home.blobs), rank)
    for name, data in files_of(known.slots, ladder, base, head, version.labels).items():
        write_atomic(out / name, data)
    return {
        "version": version.version,
        "digest": row["digest"],
        "rank": rank,
        "out": str(out),
        "head": head is not None,
    }
