"""The door of CSV: a header with `text`, `image` or `sound` and `label`, then a record per row (RFC 4180).

A cell may be quoted, and then hold separators, line breaks and doubled quotes. Columns may come in any order and
others may stand beside them. The separator is a comma, or the semicolon or tab that the header uses instead.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge.data.lines import numbered
from edge.data.problems import Problems
from edge.data.wanted import Found, Wanted, sample_of

SEPARATORS = (",", ";", "\t")


def read_csv(path: Path, wanted: Wanted, problems: Problems) -> Iterator[Found]:
    """Rows of a file, record by record; paths in it are relative to its folder.

    Raises:
        StorageError: it cannot be read.
    """
    for where, (content, label) in records(path, (wanted.column, "label"), problems):
        empty = next((n for n, cell in ((wanted.column, content), ("label", label)) if not cell.strip()), None)
        if empty is not None:
            problems.add(where, f"expected {empty!r} with some text, found an empty cell")
        else:
            yield Found(where, sample_of(content, path.parent, wanted), label, content)


def records(
    path: Path, columns: Sequence[str], problems: Problems, also: Sequence[str] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Where, and the cells of some columns, of every record below the header; empty lines do not count.

    Args:
        path: the file.
        columns: that there must be.
        problems: where to note what is wrong.
        also: columns that there may be; their cells come last, empty where there are none.

    Raises:
        StorageError: the file cannot be read.
    """
    lines = _Lines(numbered(path, problems))
    head = next(lines, "")
    separator = next((s for s in SEPARATORS if set(columns) <= set(_header(head, s))), None)
    if separator is None:
        problems.add("line 1", f"expected a header with {' and '.join(columns)}, found {head.strip()[:80]!r}")
        return
    header = _header(head, separator)
    places = [header.index(name) if name in header else None for name in (*columns, *also)]
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        lines.first = None
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add(f"line {lines.first}", _why(str(error)))
            continue
        if cells and len(cells) != len(header):
            quoted = f"put a text with {separator!r} in quotes"
            problems.add(f"line {lines.first}", f"expected {len(header)} cells, found {len(cells)}; {quoted}")
        elif cells:
            yield f"line {lines.first}", ["" if at is None else cells[at] for at in places]


class _Lines:
    """Lines that remember which was the first since somebody last asked: a record may span several."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines
        self.first: int | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        self.first = number if self.first is None else self.first
        return line


def _header(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:
        return []


def _why(error: str) -> str:
    if "unexpected end" in error:
        return "expected a closing quote, found none up to the end of the file"
    return f"expected a record of CSV, found something else ({error})"
