"""A version as a folder that PEFT loads into the original model, with the head beside it.

PEFT (Hugging Face) keeps the transposes, lora_A.weight [r, in] and lora_B.weight [out, r], and multiplies by
alpha / r: so alpha = scale r. The linear head is none of PEFT's business: `head.safetensors` holds `weight`
[classes, features] and `bias` [classes] as torch's Linear has them, `labels.json` the names of the classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from console.errors import HubError, StorageError
from hub import versions
from hub.model import Model
from hub.registry import Home, model
from hub.requests import version_digest
from wire.files import write_atomic
from wire.kinds.head import pick
from wire.kinds.lora import Lora, peft_names


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
        StorageError: the folder holds an adapter, or cannot be written.
    """
    known = model(home)
    if known is None:
        raise HubError("expected a model, found none; add a bundle with `edgequilt hub add BUNDLE`")
    if (out / "adapter_config.json").exists():
        raise StorageError(f"expected no adapter in {out}, found one; choose another folder")
    row = home.ledger.version(version_digest(home, wanted))
    if row is None:
        raise HubError(f"expected version {wanted} in the ledger, found none")
    version = versions.read_made(row).version
    rank = version.rank if rank is None else rank
    if not 1 <= rank <= version.rank:
        raise HubError(f"expected a rank of 1 to {version.rank}, found {rank}")
    ladder = versions.read_ladder(version, home.blobs, rank)
    write_atomic(out / "adapter_model.safetensors", save(_tensors(known, ladder), {"format": "pt"}))
    head = pick(versions.read_heads(version, home.blobs), rank)
    if head is not None:
        tensors = {"weight": np.ascontiguousarray(head.weight.T), "bias": head.bias}
        write_atomic(out / "head.safetensors", save(tensors, {"format": "pt"}))
        write_atomic(out / "labels.json", json.dumps(list(version.labels), ensure_ascii=False).encode() + b"\n")
    config = _config(known, rank, version.scale, base)
    write_atomic(out / "adapter_config.json", json.dumps(config, indent=2).encode() + b"\n")
    return {
        "version": version.version,
        "digest": row["digest"],
        "rank": rank,
        "out": str(out),
        "head": head is not None,
    }


def _tensors(known: Model, ladder: dict[str, Lora]) -> dict[str, Any]:
    tensors = {}
    for slot in known.slots:
        a, b = peft_names(slot.module)
        tensors[a] = np.ascontiguousarray(ladder[slot.name].a.T)
        tensors[b] = np.ascontiguousarray(ladder[slot.name].b.T)
    return tensors


def _config(known: Model, rank: int, scale: float, base: str) -> dict[str, Any]:
    alpha = scale * rank
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "task_type": None,
        "r": rank,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "target_modules": [slot.module for slot in known.slots],
    }
