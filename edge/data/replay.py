"""Rows kept from earlier data, so that what comes next does not drive out what was learned: a bounded folder.

    FOLDER/rows.jsonl       a line per row, which the door of JSONL reads: the sample or its file, the label, features
    FOLDER/samples/         pictures, sounds and arrays by their SHA-256

Which rows: `edge.data.diverse`. Samples are written first, `rows.jsonl` is then replaced as a whole, and what it no
longer names is removed last: a kill or a full disk between any two steps leaves the rows of before or those of after.
A line or a file that is not what its SHA-256 says is left out and counted. Nothing here leaves the board; files are
the user's alone.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, StorageError
from edge.data.diverse import choose_rows
from edge.data.jsonl import objects
from edge.data.keepsake import FOLDER, PRIVATE, Keepsake, keepsake
from edge.data.problems import Problems
from edge.data.row import Row
from wire.files import digest, write_atomic

INDEX = "rows.jsonl"
ROWS, SIZE_BYTES = 256, 8 << 20
COLUMNS = ("text", "image", "sound", "arrays")
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Kept:
    """A row of the folder, its features float32 [D], and the line that holds both."""

    keepsake: Keepsake
    label: str
    features: Features

    @property
    def key(self) -> str:
        """What tells it from others."""
        return digest(json.dumps([self.keepsake.column, self.keepsake.content, self.label]).encode())

    def line(self) -> bytes:
        """Its line of `rows.jsonl`."""
        packed = base64.b64encode(self.features.astype("<f4").tobytes()).decode()
        fields = {self.keepsake.column: self.keepsake.content, "label": self.label, "features": packed}
        return json.dumps({**fields, "sha256": _digest(fields)}, ensure_ascii=False).encode() + b"\n"

    @property
    def size_bytes(self) -> int:
        """What it takes on disk."""
        return len(self.line()) + (0 if self.keepsake.column == "text" else self.keepsake.size_bytes)


class Replay:
    """The rows of a folder. Make it with `load`; `offer` changes the folder.

    Args:
        folder: where it lies; made by the first `offer`.
        labels: classes of the bundle, in order.
        kind: of sample that it takes: "text", "image" or "tensors".
        rows: how many are kept at most.
        size_bytes: how many bytes they take at most, samples and lines together.
    """

    def __init__(
        self, folder: Path, labels: Sequence[str], kind: str, rows: int = ROWS, size_bytes: int | None = SIZE_BYTES
    ) -> None:
        self.folder, self.limit_rows, self.limit_bytes = folder, rows, size_bytes
        self._labels, self._kind = tuple(labels), kind
        self._kept: tuple[Kept, ...] = ()
        self._weighed: tuple[Kept, ...] | None = None  # what `write` would put in their place
        self.lost = 0  # rows that the folder named and that were not what they should be

    @classmethod
    def load(
        cls, folder: Path, labels: Sequence[str], kind: str, rows: int = ROWS, size_bytes: int | None = SIZE_BYTES
    ) -> Replay:
        """Read a folder; one that is not there is empty. The arguments are those of the class.

        Raises:
            StorageError: it cannot be read.
            BadData: it was made for other labels or another kind of sample.
        """
        made = cls(folder, labels, kind, rows, size_bytes)
        path = folder / INDEX
        if path.exists():
            problems = Problems(path, "rows")
            found = [made._read(fields) for _, fields in objects(path, problems)]
            made._kept = tuple(kept for kept in found if kept is not None)
            made.lost = problems.count + found.count(None)
        return made

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """What the rows take on disk."""
        return sum(kept.size_bytes for kept in self._kept)

    def rows(self) -> tuple[Row, ...]:
        """The rows kept, the most telling of every class first."""
        return tuple(Row(k.keepsake.sample(self.folder), self._labels.index(k.label)) for k in self._kept)

    def features(self) -> Features:
        """Features [rows, D] as they were when the rows came in."""
        return np.stack([k.features for k in self._kept]) if self._kept else np.zeros((0, 0), np.float32)

    def offer(self, rows: Sequence[Row], features: NDArray[Any], kept_features: NDArray[Any] | None = None) -> int:
        """`weigh`, then `write`.

        Raises:
            BadData, StorageError: see there.
        """
        self.weigh(rows, features, kept_features)
        return self.write()

    def weigh(self, rows: Sequence[Row], features: NDArray[Any], kept_features: NDArray[Any] | None = None) -> None:
        """Choose the most telling of the rows so far and of new ones; the folder is as it was until `write`.

        Args:
            rows: to learn from, never those that were held back. Many may come in several calls: memory is that of
                one of them.
            features: [rows, D], of the runner.
            kept_features: [len(self), D] of the rows kept, anew; needed where the model's features have changed.

        Raises:
            BadData: features do not fit, or are not finite; a sample cannot be kept.
        """
        old = self._with(self._kept if self._weighed is None else self._weighed, kept_features)
        new = self._offered(rows, features)
        pool = list({k.key: k for k in (*new, *old)}.values())  # a row that comes again is the old one
        pool.sort(key=lambda k: k.key)  # so that the order in which rows come changes nothing
        _check(pool)
        stacked = np.stack([k.features for k in pool]) if pool else np.zeros((0, 0), np.float32)
        order = [self._labels.index(k.label) for k in pool]
        sizes = [k.size_bytes for k in pool]
        self._weighed = tuple(pool[i] for i in choose_rows(stacked, order, sizes, self.limit_rows, self.limit_bytes))

    def write(self) -> int:
        """Write the folder; how many rows in it are new.

        Raises:
            StorageError: it cannot be written; it holds the rows of before then, and so does this object.
        """
        chosen, before = self._kept if self._weighed is None else self._weighed, {k.key for k in self._kept}
        self._weighed = None
        self._write(chosen)
        self._kept = chosen
        return sum(k.key not in before for k in chosen)

    def _offered(self, rows: Sequence[Row], features: NDArray[Any]) -> list[Kept]:
        given = np.asarray(features, np.float32)
        if given.ndim != 2 or len(given) != len(rows):
            raise BadData(f"expected features [{len(rows)}, D] for these rows, found {list(given.shape)}")
        found = (keepsake(row.sample, self._kind) for row in rows)
        if not np.all(np.isfinite(given)):
            raise BadData("expected finite features, found NaN or infinity; lower the learning rate")
        pairs = zip(rows, found, given, strict=True)
        return [Kept(thing, self._labels[row.label], values) for row, thing, values in pairs]

    def _with(self, kept: Sequence[Kept], features: NDArray[Any] | None) -> tuple[Kept, ...]:
        if features is None:
            return tuple(kept)
        given = np.asarray(features, np.float32)
        if given.ndim != 2 or len(given) != len(kept) or not np.all(np.isfinite(given)):
            raise BadData(f"expected finite features [{len(kept)}, D] of the rows kept, found {list(given.shape)}")
        return tuple(Kept(k.keepsake, k.label, values) for k, values in zip(kept, given, strict=True))

    def _read(self, fields: dict[str, Any]) -> Kept | None:
        """The row of a line; None where line or file are not what they were.

        Raises:
            BadData: a row of another model.
        """
        said = fields.pop("sha256", None)
        column = next((name for name in COLUMNS if isinstance(fields.get(name), str)), None)
        label, packed = fields.get("label"), fields.get("features")
        if said != _digest(fields) or column is None or not isinstance(label, str) or not isinstance(packed, str):
            return None
        wanted = {"text": ("text",), "image": ("image",), "tensors": ("sound", "arrays")}[self._kind]
        if label not in self._labels or column not in wanted:
            raise BadData(
                f"expected rows of this bundle in {self.folder / INDEX}, found {column} {label[:40]!r}; use another "
                "folder for another model"
            )
        path = self.folder / fields[column]
        thing = Keepsake(column, fields[column], path.stat().st_size if column != "text" and path.is_file() else 0)
        values = np.frombuffer(base64.b64decode(packed), "<f4").astype(np.float32)
        return Kept(thing, label, values) if thing.whole(self.folder) else None

    def _write(self, chosen: Sequence[Kept]) -> None:
        named = {k.keepsake.content for k in chosen}
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for kept in chosen:
                kept.keepsake.put(self.folder)
            write_atomic(self.folder / INDEX, b"".join(k.line() for k in chosen), PRIVATE)
        except (OSError, StorageError) as error:
            self._sweep({k.keepsake.content for k in self._kept})
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"expected to write {self.folder}, which failed ({error.strerror})") from error
        self._sweep(named)

    def _sweep(self, named: set[str]) -> None:
        """Remove samples that no row names, and what a kill left half-written."""
        with contextlib.suppress(OSError):  # what stays is swept next time
            for path in [*self.folder.glob(f".{INDEX}.*"), *(self.folder / FOLDER).glob("*")]:
                if path.relative_to(self.folder).as_posix() not in named:
                    path.unlink()


def mixed(rows: Sequence[Row], kept: Sequence[Row], share: float) -> tuple[Row, ...]:
    """All new rows and so many kept ones that they are a share of the whole; few kept ones come several times.

    >>> len(mixed([Row("new", 0)] * 6, [Row("old", 1)] * 2, 0.25))
    8
    """
    count = round(len(rows) * share / (1 - share)) if kept else 0
    return (*rows, *(kept[i % len(kept)] for i in range(count)))


def _check(pool: Sequence[Kept]) -> None:
    widths = sorted({k.features.size for k in pool})
    if len(widths) > 1:
        found = " and ".join(map(str, widths))
        raise BadData(f"expected features of one length, found {found}; give those of the rows kept anew")


def _digest(fields: dict[str, Any]) -> str:
    return digest(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode())
