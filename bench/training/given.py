"""What both sides are given: token ids, labels, factors and a head, drawn once, as one .npz file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.manifest import Manifest

SEED, SCALE, RATE = 7, 2.0, 1e-3
Array = NDArray[Any]


def is_causal(model: Path) -> bool:
    """Whether a folder holds a decoder, which learns its next token."""
    names = json.loads((model / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names)


def draw(manifest: Manifest, rows: int, sequence: int, vocabulary: int, rank: int) -> dict[str, Array]:
    """`ids` [rows, sequence], `labels` [rows], `head.weight` [features, classes]; `MODULE.A` [in, rank], `MODULE.B`.

    Labels and head are those of a model with classes; a decoder has neither.

    B is small and not zero, as after some steps: gradients of A would be zero else.
    """
    drawn = np.random.default_rng(SEED)
    found: dict[str, Array] = {"ids": drawn.integers(vocabulary // 8, vocabulary, (rows, sequence))}
    if manifest.head is not None:
        found["labels"] = drawn.integers(0, len(manifest.labels), rows)
        found["head.weight"] = drawn.normal(0, 0.05, (manifest.head.features, len(manifest.labels)))
    for slot in manifest.slots_of("lora"):
        found[f"{slot.module}.A"] = drawn.normal(0, slot.features_in**-0.5, (slot.features_in, rank))
        found[f"{slot.module}.B"] = drawn.normal(0, 0.02, (rank, slot.features_out))
    return {name: a if a.dtype.kind == "i" else a.astype(np.float32) for name, a in found.items()}


def read(path: Path) -> dict[str, Array]:
    """What `draw` made, from its file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
