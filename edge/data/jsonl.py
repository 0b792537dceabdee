"""The door of JSONL: one JSON object per line, `{"text": ..., "label": ...}` or `{"image": ..., "label": ...}`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from console.errors import BadData, StorageError, join
from edge.data.row import Data, Row, is_held_out


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
