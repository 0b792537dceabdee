"""Rows of training data: how they are read, split, checked and written.

A file of rows is JSON Lines (UTF-8): one object per line with `text` and `label` and, if the user wants to
choose who holds what, `device`. Bytes from outside enter by `read_rows` only, which names every broken line
before it gives up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.errors import BadData
from sim.split import SPLITS, split_of
from wire.files import read_bytes, write_atomic

MAX_PROBLEMS = 20  # lines named in one report: enough to see a pattern, few enough to read
MAX_FILE_BYTES = 256 << 20  # far above what a demonstration can train on in minutes
MAX_TEXT_CHARS = 20_000  # far above what any bucket keeps; a longer "text" is a wrong file
MAX_LABEL_CHARS = 200
TEST_FRACTION = 0.2  # of a user's own rows


@dataclass(frozen=True)
class Row:
    """One sample: its text, its label, `"train"` or `"test"`, and who holds it (None: anybody)."""

    text: str
    label: str
    split: str
    device: str | None = None


def read_rows(path: Path, devices: Sequence[str] = (), test_fraction: float = TEST_FRACTION) -> list[Row]:
    """Read and check a file of rows; the hash of a text decides whether it trains or tests.

    `devices` are the names that a row's `device` may have; empty means any name. A text that is repeated with
    the same label counts once.

    Raises:
        StorageError: the file cannot be read.
        BadData: broken lines (all are counted, the first 20 named), no row, fewer than two labels, one text with
            two labels, or nothing in one of the two splits.
    """
    rows: list[Row] = []
    problems: list[str] = []
    first: dict[str, tuple[int, str]] = {}  # text → the line where it was first seen, and its label there
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        parsed = _parse(line, devices)
        if isinstance(parsed, str):
            problems.append(f"line {number}: {parsed}")
            continue
        text, label, device = parsed
        seen = first.setdefault(text, (number, label))
        if seen[1] != label:
            problems.append(
                f"line {number}: the text of line {seen[0]} with another label, {label!r} and not {seen[1]!r}"
            )
        elif seen[0] == number:
            rows.append(Row(text, label, split_of(text, test_fraction), device))
    _refuse(path, problems, rows)
    return rows


def write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write one JSON object per line; all of the file or none of it.

    Raises:
        StorageError: the file cannot be written.
    """
    text = "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)
    write_atomic(path, text.encode())


def as_lines(rows: Iterable[Row]) -> list[dict[str, str]]:
    """What an agent's `data.jsonl` holds of text rows.

    >>> as_lines([Row("a text", "a", "train")])
    [{'text': 'a text', 'label': 'a'}]
    """
    return [{"text": row.text, "label": row.label} for row in rows]


def labels_of(rows: Iterable[Row]) -> list[str]:
    """The distinct labels, sorted: the order of the classes in a head."""
    return sorted({row.label for row in rows})


def _lines(path: Path) -> list[str]:
    data = read_bytes(path, "a file of rows", MAX_FILE_BYTES)
    try:
        return data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadData(
            f"expected UTF-8 text in {path}, found byte 0x{data[error.start]:02x} on line {line}; "
            "save the file as UTF-8"
        ) from error


def _parse(line: str, devices: Sequence[str]) -> tuple[str, str, str | None] | str:
    """Return (text, label, device), or what is wrong with the line."""
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON ({error})"
    if not isinstance(value, dict):
        return f"expected a JSON object, found {_kind(value)}"
    for name, limit_chars in (("text", MAX_TEXT_CHARS), ("label", MAX_LABEL_CHARS)):
        problem = _wrong(value, name, limit_chars)
        if problem:
            return problem
    device = value.get("device")
    if device is not None and not isinstance(device, str):
        return f"'device' must be a string, found {_kind(device)}"
    if device is not None and devices and device not in devices:
        return f"unknown device {device!r}, expected one of {', '.join(devices)}"
    return value["text"].strip(), value["label"].strip(), device


def _wrong(value: Mapping[str, Any], name: str, limit_chars: int) -> str | None:
    """What is wrong with a required string field, or None."""
    if name not in value:
        return f"'{name}' is missing, found {', '.join(map(repr, list(value)[:6])) or 'no field'}"
    found = value[name]
    if not isinstance(found, str):
        return f"'{name}' must be a string, found {_kind(found)}"
    if not found.strip():
        return f"'{name}' is empty"
    if len(found) > limit_chars:
        return f"'{name}' has {len(found)} characters, at most {limit_chars} are accepted"
    if any("\ud800" <= character <= "\udfff" for character in found):  # JSON can spell them, UTF-8 cannot
        return f"'{name}' holds half of a surrogate pair"
    return None


def _kind(value: object) -> str:
    """A JSON value's type in JSON's own words."""
    if isinstance(value, bool):
        return "a boolean"
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _refuse(path: Path, problems: Sequence[str], rows: Sequence[Row]) -> None:
    """Raise if the file as a whole cannot be trained on."""
    if problems:
        named = "".join(f"\n  {problem}" for problem in problems[:MAX_PROBLEMS])
        hidden = len(problems) - MAX_PROBLEMS
        more = f"\n  and {hidden} more" if hidden > 0 else ""
        lines = "1 broken line" if len(problems) == 1 else f"{len(problems)} broken lines"
        raise BadData(
            f"expected one object with 'text' and 'label' per line in {path}, found {lines}; "
            f"correct or delete them:{named}{more}"
        )
    if not rows:
        raise BadData(f"expected at least one row in {path}, found none; give one JSON object per line")
    if len(labels_of(rows)) == 1:
        raise BadData(
            f"expected at least two labels in {path}, found only {rows[0].label!r}; add rows with another label"
        )
    empty = [split for split in SPLITS if not any(row.split == split for row in rows)]
    if empty:
        raise BadData(
            f"expected rows for training and for the test in {path}, found {len(rows)} and none for {empty[0]}; "
            "add rows (a hash of the text decides which of them test)"
        )
