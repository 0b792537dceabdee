"""A board's own data: one JSON object per line, `{"text": ..., "label": ...}` or `{"image": ..., "label": ...}`.

A fixed share of the rows is kept back for evaluation and never trained on. Which rows: decided by the SHA-256 of
the row itself, so the same row stays on the same side when the file grows or is shuffled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.errors import BadData, StorageError, join


@dataclass(frozen=True)
class Row:
    """A sample (a text, or a picture's path, Pillow image or array) and the index of its label."""

    sample: Any
    label: int


@dataclass(frozen=True)
class Data:
    """Rows to learn from, and rows that were kept back."""

    train: tuple[Row, ...]
    holdout: tuple[Row, ...]

    @property
    def all(self) -> tuple[Row, ...]:
        """Every row of the file."""
        return self.train + self.holdout


def read_data(path: Path, labels: Sequence[str], kind: str, holdout: float) -> Data:
    """Read a data file.

    Args:
        path: the file; an image's path is relative to its folder.
        labels: the classes that the model knows, in order.
        kind: "text" or "image".
        holdout: share of rows to keep back, 0 to 1.

    Raises:
        StorageError: it cannot be read.
        BadData: naming every line that is broken or has an unknown label, or that there is no row.
    """
    classes = {label: index for index, label in enumerate(labels)}
    kept: tuple[list[Row], list[Row]] = ([], [])

    def take(content: str, label: str) -> None:
        sample = content if kind == "text" else path.parent / content
        kept[is_held_out(content, label, holdout)].append(Row(sample, classes[label]))

    check_data(path, labels, kind, take)
    return Data(tuple(kept[0]), tuple(kept[1]))


def check_data(
    path: Path, labels: Sequence[str], kind: str, take: Callable[[str, str], None] = lambda content, label: None
) -> int:
    """Read a data file line by line without keeping it; returns the number of rows.

    Raises:
        StorageError: it cannot be read.
        BadData: naming every line that is broken or has an unknown label, or that there is no row.
    """
    known, problems, rows = frozenset(labels), list[str](), 0
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                found = _row(line, known, labels, kind)
                if isinstance(found, str):
                    problems.append(f"line {number}: {found}")
                else:
                    take(*found)
                    rows += 1
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"expected a data file in UTF-8 at {path}, found none that can be read ({error}); check the path"
        ) from error
    if problems:
        raise BadData(f"{path} cannot be used: {join(problems)}; mend these lines")
    if not rows:
        raise BadData(f"expected rows in {path}, found none; write one JSON object per line")
    return rows


def is_held_out(content: str, label: str, share: float) -> bool:
    """Whether a row is kept back.

    >>> is_held_out("a", "b", 0.0), is_held_out("a", "b", 1.0)
    (False, True)
    """
    sha = hashlib.sha256(json.dumps([content, label], ensure_ascii=False).encode()).digest()
    return int.from_bytes(sha[:6], "big") / 2**48 < share


def _row(line: str, known: frozenset[str], labels: Sequence[str], kind: str) -> tuple[str, str] | str:
    """Content and label of a line, or what is wrong with it."""
    try:
        found = json.loads(line)
    except ValueError as error:
        return f"expected a JSON object, found something else ({error})"
    if not isinstance(found, dict):
        return f"expected a JSON object, found {type(found).__name__}"
    content, label = found.get(kind), found.get("label")
    if not isinstance(content, str) or not content.strip():
        return f"expected {kind!r} with some text, found {str(content)[:40]!r}"
    if not isinstance(label, str):
        return f"expected 'label' with some text, found {str(label)[:40]!r}"
    if label not in known:
        some = ", ".join(labels[:12]) + (", ..." if len(labels) > 12 else "")
        return f"unknown label {label[:40]!r}, expected one of {some}"
    return content, label
