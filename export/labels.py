"""The classes of a head: from a file with one per line, or the distinct labels of rows of data."""

from __future__ import annotations

import json
from pathlib import Path

from console.errors import BadData, UsageError, join
from wire.files import read_bytes

LIMIT_BYTES = 256 << 20
LABEL_LIMIT_CHARS = 200


def read_labels(labels: Path | None, data: Path | None) -> tuple[str, ...]:
    """The labels in the order of the logits.

    Args:
        labels: one label per line, in this order; blank lines do not count.
        data: JSON Lines with a `label` in each; sorted if there is no `labels`, and else checked against it.

    Raises:
        UsageError: neither is given.
        BadData: naming every line that is broken, repeats a label or has one that is not in `labels`.
        StorageError: a file cannot be read.
    """
    if labels is None and data is None:
        raise UsageError("expected the classes as --labels FILE (one per line) or --data FILE.jsonl, found neither")
    listed = None if labels is None else _listed(labels)
    found = {} if data is None else _found(data)
    if listed is not None:
        problems = [f"line {line}: {label!r}" for label, line in found.items() if label not in listed]
        if problems:
            raise BadData(
                f"expected only labels of {labels} in {data}, found unknown ones ({join(problems)}); "
                "add them to the labels or remove the lines"
            )
    names = tuple(listed) if listed is not None else tuple(sorted(found))
    if len(names) < 2:
        raise BadData(f"expected at least two labels in {labels or data}, found {len(names)}; add the others")
    return names


def _listed(path: Path) -> list[str]:
    lines = [line.strip() for line in _text(path).splitlines()]
    names = [line for line in lines if line]
    problems = [f"line {i}: {line!r} again" for i, line in enumerate(lines, 1) if line and line in lines[: i - 1]]
    problems += [f"{name[:20]!r}... is too long" for name in names if len(name) > LABEL_LIMIT_CHARS]
    if problems:
        raise BadData(f"expected one label per line in {path}, each once, found {join(problems)}; mend these lines")
    return names


def _found(path: Path) -> dict[str, int]:
    """Labels and the line where each was first seen."""
    found: dict[str, int] = {}
    problems = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        label = _label(line)
        if label is None:
            problems.append(f"line {number}")
        else:
            found.setdefault(label, number)
    if problems:
        raise BadData(
            f'expected a JSON object with a text "label" on every line of {path}, found something else on '
            f"{join(problems)}; mend these lines"
        )
    return found


def _label(line: str) -> str | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    label = row.get("label") if isinstance(row, dict) else None
    return label if isinstance(label, str) and 0 < len(label) <= LABEL_LIMIT_CHARS else None


def _text(path: Path) -> str:
    try:
        return read_bytes(path, "a file of labels", LIMIT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(f"expected UTF-8 text in {path}, found other bytes ({error.reason}); save it as UTF-8") from error
