"""What formats are tried on: texts, pictures or arrays from a file, with or without labels. The one door for `--data`.

.txt     a text per line
.jsonl   an object per line, with a text "text" or the path of a picture "image" (seen from the file) and, in all
         lines or in none, a "label" (a text or an integer)
.csv     a header with `text` or `image` and perhaps `label`; .tsv the same with tabs
.npz     an array per input of the model, first dimension the items, and perhaps `labels` (integers or texts)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, UsageError, join
from export.sample import read_sample
from export.study.lines import READERS, Line
from wire.files import read_bytes

LABELS = "labels"
LIMIT_BYTES = 1 << 30


@dataclass(frozen=True)
class Items:
    """Texts, pictures, or arrays by the name of an input, with labels for all of them or for none.

    Attributes:
        texts: empty where there is something else.
        pictures: files; empty where there is something else.
        arrays: [items, ...] each; empty where there is something else.
        labels: as written in the file; empty without any.
        places: where each item stands, for people.
        total: how many the file holds, of which these may be some.
    """

    texts: tuple[str, ...] = ()
    pictures: tuple[Path, ...] = ()
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    total: int = 0

    def __len__(self) -> int:
        return len(self.places)

    def spread(self, limit: int) -> Items:
        """At most `limit` of them at even distances: files are often sorted by label."""
        return self if len(self) <= limit else self._chosen(_even(len(self), limit))

    def beside(self, limit: int, count: int) -> Items:
        """At most `count` of those that `spread(limit)` leaves out; of all where it leaves none out."""
        taken = set(_even(len(self), min(limit, len(self))))
        left = [i for i in range(len(self)) if i not in taken] or list(range(len(self)))
        return self._chosen([left[i] for i in _even(len(left), min(count, len(left)))])

    def _chosen(self, chosen: list[int]) -> Items:
        return replace(
            self,
            texts=tuple(self.texts[i] for i in chosen if self.texts),
            pictures=tuple(self.pictures[i] for i in chosen if self.pictures),
            arrays={name: array[chosen] for name, array in self.arrays.items()},
            labels=tuple(self.labels[i] for i in chosen if self.labels),
            places=tuple(self.places[i] for i in chosen),
        )


def _even(count: int, limit: int) -> list[int]:
    return [i * count // limit for i in range(limit)]


def read_items(path: Path, option: str = "--data") -> Items:
    """Read a file of items, by what its name ends in; `option` is what the user named it with.

    Raises:
        UsageError: it ends in something else.
        StorageError: it cannot be read.
        BadData: naming every line that is broken, or that there is nothing in it.
    """
    if path.suffix == ".npz":
        return _arrays(path)
    if path.suffix not in READERS:
        raise UsageError(f"expected {option} as .txt, .jsonl, .csv, .tsv or .npz, found {path}; rename or convert it")
    return _written(path, list(READERS[path.suffix](_decoded(path))))


def _decoded(path: Path) -> str:
    try:
        return read_bytes(path, "a file of texts", LIMIT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(f"expected UTF-8 text in {path}, found other bytes ({error.reason}); save it as UTF-8") from error


def _written(path: Path, found: list[Line]) -> Items:
    sound = [line for line in found if not line.problem]
    problems = [f"line {line.number}: {line.problem}" for line in found if line.problem]
    if any(line.label is not None for line in sound):
        problems += [f"line {line.number}: no label" for line in sound if line.label is None]
    if any(line.text for line in sound):
        problems += [f"line {line.number}: a picture among texts" for line in sound if line.image]
    if problems:
        raise BadData(
            f"expected a text or a picture, and in all lines or none a label, in {path}, found {join(problems)}"
        )
    if not found:
        raise BadData(f"expected at least one text in {path}, found none; add some lines")
    return Items(
        texts=tuple(line.text for line in found if line.text),
        pictures=tuple(path.parent / line.image for line in found if line.image),
        labels=tuple(line.label for line in found if line.label is not None),
        places=tuple(f"line {line.number}" for line in found),
        total=len(found),
    )


def _arrays(path: Path) -> Items:
    found = read_sample(path)
    labels = found.pop(LABELS, None)
    counts = {name: len(array) if array.ndim else -1 for name, array in found.items()}
    count = next(iter(counts.values()), 0)
    problems = [f"{name} of {n if n >= 0 else 'no'} items" for name, n in counts.items() if n != count or n < 1]
    if not found:
        problems.append("no array of an input")
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iuU" or len(labels) != count):
        problems.append(f"{LABELS} of shape {list(labels.shape)} and type {labels.dtype}")
    problems += [f"{name} with NaN or infinity in item {bad}" for name, a in found.items() for bad in _not_numbers(a)]
    if problems:
        raise BadData(
            f"expected arrays of as many items each in {path}, and one label for each, found {join(problems)}"
        )
    written = () if labels is None else tuple(str(label) for label in labels)
    return Items(arrays=found, labels=written, places=tuple(f"item {i}" for i in range(count)), total=count)


def _not_numbers(array: NDArray[Any]) -> list[int]:
    if array.dtype.kind != "f" or array.ndim == 0:
        return []
    return [int(i) for i in np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))]
