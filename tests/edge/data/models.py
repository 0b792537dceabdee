"""Small models that data files are for: what a manifest says of them, without a graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.edge.bundles import make_bundle
from wire.bundle import MANIFEST, Bundle, open_bundle
from wire.manifest import Manifest, Preprocess, Tensor, to_bytes

LABELS = ("a", "b", "c")


def manifest_of(folder: Path, kind: str = "text", labels: tuple[str, ...] = LABELS) -> Manifest:
    """The manifest of a bundle of texts or pictures."""
    make_bundle(folder / "bundle", kind=kind, labels=labels)
    return open_bundle(folder / "bundle", None).manifest


def tensors_of(folder: Path, *inputs: Tensor, **parameters: object) -> Manifest:
    """The manifest of a bundle that takes arrays of one's own choice."""
    return replace(manifest_of(folder), preprocess=Preprocess("tensors", (), dict(parameters)), inputs=inputs)


def listener(folder: Path, samples: int = 400, rate: int | None = 8000) -> Manifest:
    """The manifest of a bundle that takes samples of sound."""
    given = {} if rate is None else {"sampling_rate": rate}
    return tensors_of(folder, Tensor("samples", "float32", (2, samples)), **given)


def resealed(bundle: Bundle, **changes: Any) -> Bundle:
    """The bundle with other entries in its manifest."""
    body = to_bytes(replace(bundle.manifest, **changes))
    (bundle.folder / MANIFEST).write_bytes(body)
    return open_bundle(bundle.folder, None)
