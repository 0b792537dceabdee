"""A version as a file or folder for others: PEFT's folder with the head beside it (`wire.peft`), or an adapter file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.errors import BadData, HubError, StorageError
from hub.making import versions
from hub.making.model import Model
from hub.store.names import version_digest
from hub.store.registry import Home, model
from wire.adapter import Adapter, to_bytes
from wire.files import write_atomic
from wire.peft import CONFIG, files_of


def export_adapter(
    home: Home, wanted: str, rank: int | None, base: str, out: Path, form: str = "peft", of: str = ""
) -> dict[str, Any]:
    """Write a version.

    Args:
        home: the hub's folder, opened.
        wanted: a number, `tip` or `released`.
        rank: how many directions of the ladder; None for all.
        base: what PEFT is told that the adapter belongs to.
        of: its model; empty for the only one.
        out: what is written; it must not hold an adapter yet. PEFT: a folder of `adapter_config.json`,
            `adapter_model.safetensors`, and if there is a head its two files. safetensors: a file.
        form: one of `FORMATS`.

    Raises:
        HubError: there is no such version, or the ladder is shorter.
        BadData: the version holds something that has no counterpart in PEFT.
        StorageError: something is there already, or cannot be written.
    """
    known = model(home, of)
    row = home.ledger.version(version_digest(home, known.id, wanted))
    if row is None:
        raise HubError(f"expected version {wanted} in the ledger, found none")
    version = versions.read_made(row).version
    rank = version.rank if rank is None else rank
    if not 1 <= rank <= version.rank:
        raise HubError(f"expected a rank of 1 to {version.rank}, found {rank}")
    adapter = Adapter(
        known.id,
        row["digest"],
        versions.read_ladder(version, home.blobs, rank),
        versions.read_biases(version, home.blobs),
        {r: head for r, head in versions.read_heads(version, home.blobs).items() if r <= rank},
        scales=versions.read_scales(version, home.blobs),
    )
    FORMATS[form](known, adapter, base, out)
    return {
        "version": version.version,
        "digest": row["digest"],
        "rank": rank,
        "format": form,
        "out": str(out),
        "head": adapter.head is not None,
    }


def _peft(known: Model, adapter: Adapter, base: str, out: Path) -> None:
    if (out / CONFIG).exists():
        raise StorageError(f"expected no adapter in {out}, found one; choose another folder")
    others = {"biases": len(adapter.bias), "moved scales": 0 if adapter.scales is None else len(adapter.scales.belongs)}
    found = [f"{count} {what}" for what, count in others.items() if count]
    if found:
        raise BadData(
            f"expected LoRA factors only for PEFT, found {' and '.join(found)}, which it cannot hold; use "
            "--format safetensors"
        )
    for name, data in files_of(known.slots, adapter.lora, base or known.id, adapter.head, known.labels).items():
        write_atomic(out / name, data)


def _safetensors(known: Model, adapter: Adapter, base: str, out: Path) -> None:
    if out.exists():
        raise StorageError(f"expected no file at {out}, found one; choose another name")
    write_atomic(out, to_bytes(adapter))


FORMATS: dict[str, Callable[[Model, Adapter, str, Path], None]] = {"peft": _peft, "safetensors": _safetensors}
