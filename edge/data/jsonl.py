"""The door of JSONL: an object per line, `{"text": ..., "label": ...}`; or `image`, `sound`, `arrays` for `text`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.data.lines import numbered
from edge.data.problems import Problems
from edge.data.wanted import Found, Wanted, sample_of
from wire.json_text import parse_json


def read_jsonl(path: Path, wanted: Wanted, problems: Problems) -> Iterator[Found]:
    """Rows of a file, line by line; paths in it are relative to its folder.

    Raises:
        StorageError: it cannot be read.
    """
    for number, fields in objects(path, problems):
        column = next((name for name in wanted.columns if name in fields), wanted.column)
        where, content, label = f"line {number}", fields.get(column), fields.get("label")
        if not isinstance(content, str) or not content.strip():
            problems.add(where, f"expected {column!r} with some text, found {str(content)[:40]!r}")
        elif not isinstance(label, str):
            problems.add(where, f"expected 'label' with some text, found {str(label)[:40]!r}")
        else:
            yield Found(where, sample_of(content, path.parent, wanted), label, content)


def objects(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and JSON object of every line; empty lines do not count.

    Raises:
        StorageError: the file cannot be read.
    """
    for number, line in numbered(path, problems):
        if not line.strip():
            continue
        try:
            found = parse_json(line)
        except ValueError as error:
            problems.add(f"line {number}", f"expected a JSON object, found something else ({error})")
            continue
        if isinstance(found, dict):
            yield number, found
        else:
            problems.add(f"line {number}", f"expected a JSON object, found {type(found).__name__}")
