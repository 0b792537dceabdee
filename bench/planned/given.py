"""What workers are given: rows, a first version of the model as a hub makes it, and places where they find things."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from devices.ranks import LARGEST_RANK
from edge.request import Place
from hub.making.model import model_of
from hub.making.versions import first
from hub.store.blobs import Blobs
from wire.bundle import MANIFEST
from wire.files import digest
from wire.keys import new_key
from wire.manifest import parse_manifest
from wire.messages import Version

SEED = 5


class Flat(Blobs):
    """Blobs as a board keeps them: all in one folder."""

    def path(self, sha256: str) -> Path:
        """Where a blob lies."""
        return self.folder / sha256


@dataclass(frozen=True)
class Given:
    """A version with its digest; rows and blobs."""

    version: Version
    digest: str
    rows: Path
    blobs: Path

    def place(self, bundle: Path) -> Place:
        """Of a device that runs a bundle."""
        return Place(str(bundle), digest((bundle / MANIFEST).read_bytes()), str(self.rows), 0.0, str(self.blobs))


def given(folder: Path, whole: Path, rows: int, tokens: int) -> Given:
    """Rows with as many tokens as fit, and version 0 of the model.

    Args:
        folder: for both.
        whole: a bundle with all of the model's adapters.
        rows: how many.
        tokens: of a row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = parse_manifest((whole / MANIFEST).read_bytes())
    labels = manifest.labels
    lines = [
        json.dumps({"text": t, "label": labels[i % len(labels)]}) for i, t in enumerate(texts(whole, rows, tokens))
    ]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = first(model_of(manifest), LARGEST_RANK, 2.0, Flat(folder / "blobs"), new_key("hub", "bench"))
    return Given(made.version, made.digest, folder / "rows.jsonl", folder / "blobs")


def texts(bundle: Path, count: int, tokens: int) -> list[str]:
    """Texts of words drawn from all that the bundle's tokenizer has, one for each token but the two around them.

    A table is touched row by row as words come: rows of few words would leave most of it out of memory.
    """
    files = (bundle / name for name in parse_manifest((bundle / MANIFEST).read_bytes()).preprocess.files)
    tokenizer = next(path for path in files if path.name == "tokenizer.json")
    vocabulary = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isascii() and word.isalpha())
    drawn = np.random.default_rng(SEED).integers(len(words), size=(count, max(1, tokens - 2)))
    return [" ".join(words[at] for at in row) for row in drawn.tolist()]
