"""What a training run is made from: a bundle, rows or texts, perhaps an adapter to go on from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.data.formats import open_data
from edge.data.row import Data, Row
from edge.data.texts import Passage
from edge.runner import Runner
from wire.adapter import Adapter

NOTHING = Data((), ())


@dataclass(frozen=True)
class Texts:
    """Texts to learn from, and texts that were kept back."""

    train: tuple[Passage, ...]
    holdout: tuple[Passage, ...]


@dataclass(frozen=True)
class Source:
    """A bundle, what it learns from, and where it starts.

    Attributes:
        runner: of the bundle.
        data: labelled rows; of a decoder none.
        texts: of a decoder.
        begun: an adapter to go on from.
        keep: rows whose answers an edit must leave as they are.
    """

    runner: Runner
    data: Data = NOTHING
    texts: Texts | None = None
    begun: Adapter | None = None
    keep: Data = NOTHING

    @property
    def sha256(self) -> str:
        """Over all rows in order: texts and arrays by what is in them, files by name, size and time of change."""
        sha = hashlib.sha256()
        for content in _contents(self):
            sha.update(len(content).to_bytes(8, "little") + content)
        return sha.hexdigest()


def read_source(runner: Runner, path: Path, kept_back: float, begun: Adapter | None, keep: Path | None) -> Source:
    """What a file or folder holds for a bundle.

    Args:
        runner: of the bundle.
        path: of the data, see `edge.data.formats`.
        kept_back: share of the rows to judge by.
        begun: an adapter to go on from.
        keep: data whose answers an edit must leave as they are.

    Raises:
        StorageError, BadData: see `open_data`.
    """
    manifest = runner.manifest
    data = open_data(path, manifest, kept_back)
    if manifest.loss is not None:
        return Source(runner, texts=Texts(samples_of(data.train), samples_of(data.holdout)), begun=begun)
    kept = NOTHING if keep is None else open_data(keep, manifest, 0.0)
    return Source(runner, data, begun=begun, keep=kept)


def samples_of(rows: Sequence[Row]) -> tuple[Any, ...]:
    """What there is of rows beside their class: of a decoder's, passages."""
    return tuple(row.sample for row in rows)


def _contents(source: Source) -> Iterator[bytes]:
    for side in (source.data.train, source.data.holdout, source.keep.train):
        for row in side:
            yield row.label.to_bytes(8, "little", signed=True) + _content(row.sample)
        yield b"side"
    for passages in () if source.texts is None else (source.texts.train, source.texts.holdout):
        for passage in passages:
            yield passage.prompt.encode()
            yield passage.text.encode()
        yield b"side"


def _content(sample: object) -> bytes:
    if isinstance(sample, Path):
        found = sample.stat()
        return f"{sample} {found.st_size} {found.st_mtime_ns}".encode()
    if isinstance(sample, Mapping):
        return b"".join(name.encode() + np.asarray(value).tobytes() for name, value in sorted(sample.items()))
    return sample.encode() if isinstance(sample, str) else np.asarray(sample).tobytes()
