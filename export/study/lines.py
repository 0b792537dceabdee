"""Lines of a data file, each with what is wrong with it if anything is: plain text, JSON Lines, CSV and TSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

LONGEST_FIELD = 1 << 24


@dataclass(frozen=True)
class Line:
    """A text or the path of a picture, and perhaps a label; or a problem."""

    number: int
    text: str = ""
    image: str = ""
    label: str | None = None
    problem: str = ""


def texts(content: str) -> Iterator[Line]:
    """A text per line that is not blank."""
    # not splitlines: a form feed or U+2028 inside a text ends no line of a file
    for number, line in enumerate(io.StringIO(content), 1):
        if line.strip():
            yield Line(number, text=line.strip())


def objects(content: str) -> Iterator[Line]:
    """A JSON object per line that is not blank."""
    for number, line in enumerate(io.StringIO(content), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield Line(number, problem="not JSON")
            continue
        if not isinstance(row, dict):
            yield Line(number, problem="not a JSON object")
        else:
            yield _line(number, row.get("text"), row.get("image"), row.get("label"))


def table(content: str, delimiter: str) -> Iterator[Line]:
    """A header, then a row each."""
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(io.StringIO(content), delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader, [])]
        if not {"text", "image"} & set(header):
            found = ", ".join(header[:4]) or "empty"
            yield Line(1, problem=f"a header without a column 'text' or 'image' ({found})")
            return
        for row in reader:
            if row and len(row) != len(header):
                yield Line(reader.line_num, problem=f"{len(row)} columns instead of {len(header)}")
            elif row:
                cells = dict(zip(header, row, strict=True))
                yield _line(reader.line_num, cells.get("text"), cells.get("image"), cells.get("label"))
    except csv.Error as error:
        yield Line(reader.line_num, problem=str(error))


READERS: dict[str, Callable[[str], Iterator[Line]]] = {
    ".txt": texts,
    ".jsonl": objects,
    ".csv": lambda content: table(content, ","),
    ".tsv": lambda content: table(content, "\t"),
}


def _line(number: int, text: object, image: object, label: object) -> Line:
    given = [value for value in (text, image) if value is not None]
    if len(given) != 1 or not isinstance(given[0], str) or not given[0].strip():
        return Line(number, problem='no text "text" or path "image"' if len(given) < 2 else "both a text and a picture")
    if "\0" in given[0] and image is not None:
        return Line(number, problem="no path")
    if not _is_unicode(given[0]) or not _is_unicode(label):
        return Line(number, problem="half a character (a lone surrogate)")
    if label is not None and (isinstance(label, bool) or not isinstance(label, (str, int)) or label == ""):
        return Line(number, problem="a label that is neither text nor an integer")
    known = None if label is None else str(label)
    return Line(number, "" if text is None else given[0], "" if image is None else given[0], known)


def _is_unicode(text: object) -> bool:
    """Whether it can be written as UTF-8: JSON can name halves of characters."""
    return not any("\ud800" <= c <= "\udfff" for c in text) if isinstance(text, str) else True
