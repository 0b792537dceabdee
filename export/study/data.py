"""What formats are tried on: texts or arrays from a file, with or without labels. The one door for `--data`.

.txt     a text per line
.jsonl   an object per line, with a text "text" and, in all lines or in none, a "label" (a text or an integer)
.csv     a header with `text` and perhaps `label`; .tsv the same with tabs
.npz     an array per input of the model, first dimension the items, and perhaps `labels` (integers or texts)
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, UsageError, join
from export.sample import read_sample
from wire.files import read_bytes

LABELS = "labels"
LIMIT_BYTES = 1 << 30
LONGEST_FIELD = 1 << 24

Line = tuple[int, "str | None", "str | None", str]  # number, text, label, problem


@dataclass(frozen=True)
class Items:
    """Texts, or arrays by the name of an input, with labels for all of them or for none.

    Attributes:
        texts: empty where there are arrays.
        arrays: [items, ...] each; empty where there are texts.
        labels: as written in the file; empty without any.
        places: where each item stands, for people.
        total: how many the file holds, of which these may be some.
    """

    texts: tuple[str, ...] = ()
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
    readers: dict[str, Callable[[str], Iterator[Line]]] = {
        ".txt": _lines,
        ".jsonl": _objects,
        ".csv": lambda text: _table(text, ","),
        ".tsv": lambda text: _table(text, "\t"),
    }
    if path.suffix not in readers:
        raise UsageError(f"expected {option} as .txt, .jsonl, .csv, .tsv or .npz, found {path}; rename or convert it")
    return _texts(path, list(readers[path.suffix](_decoded(path))))


def _decoded(path: Path) -> str:
    try:
        return read_bytes(path, "a file of texts", LIMIT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(f"expected UTF-8 text in {path}, found other bytes ({error.reason}); save it as UTF-8") from error


def _texts(path: Path, lines: list[Line]) -> Items:
    labelled = [label is not None for _, _, label, problem in lines if not problem]
    problems = [f"line {number}: {problem}" for number, _, _, problem in lines if problem]
    if any(labelled) and not all(labelled):
        problems += [f"line {n}: no label" for n, _, label, problem in lines if not problem and label is None]
    if problems:
        raise BadData(f"expected a text, and in all lines or none a label, in {path}, found {join(problems)}")
    if not lines:
        raise BadData(f"expected at least one text in {path}, found none; add some lines")
    return Items(
        texts=tuple(text for _, text, _, _ in lines if text is not None),
        labels=tuple(label for _, _, label, _ in lines if label is not None),
        places=tuple(f"line {number}" for number, _, _, _ in lines),
        total=len(lines),
    )


def _lines(text: str) -> Iterator[Line]:
    # not splitlines: a form feed or U+2028 inside a text ends no line of a file
    for number, line in enumerate(io.StringIO(text), 1):
        if line.strip():
            yield number, line.strip(), None, ""


def _objects(text: str) -> Iterator[Line]:
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield number, None, None, "not JSON"
            continue
        if not isinstance(row, dict):
            yield number, None, None, "not a JSON object"
        else:
            yield _row(number, row.get("text"), row.get("label"))


def _table(text: str, delimiter: str) -> Iterator[Line]:
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader, [])]
        if "text" not in header:
            yield 1, None, None, f"a header without a column 'text' ({', '.join(header[:4]) or 'empty'})"
            return
        at, label_at = header.index("text"), header.index("label") if "label" in header else None
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                yield reader.line_num, None, None, f"{len(row)} columns instead of {len(header)}"
                continue
            yield _row(reader.line_num, row[at], None if label_at is None else row[label_at])
    except csv.Error as error:
        yield reader.line_num, None, None, str(error)


def _row(number: int, text: object, label: object) -> Line:
    if not isinstance(text, str) or not text.strip():
        return number, None, None, 'no text "text"'
    if not _is_unicode(text) or not _is_unicode(label):
        return number, None, None, "half a character (a lone surrogate)"
    if label is None:
        return number, text, None, ""
    if isinstance(label, bool) or not isinstance(label, (str, int)) or label == "":
        return number, None, None, "a label that is neither text nor an integer"
    return number, text, str(label), ""


def _is_unicode(text: object) -> bool:
    """Whether it can be written as UTF-8: JSON can name halves of characters."""
    return not any("\ud800" <= c <= "\udfff" for c in text) if isinstance(text, str) else True


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
