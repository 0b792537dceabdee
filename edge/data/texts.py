"""The door of texts without labels, for models that generate: what a model learns to go on from.

| file | a text is |
|---|---|
| `.txt` | a line |
| `.csv`, `.tsv` | the cell of the column `text` |
| any other | the field `text` of a JSON object per line |
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from console.errors import BadData
from edge.data.csv_file import records
from edge.data.jsonl import objects
from edge.data.lines import numbered
from edge.data.problems import Problems
from edge.data.row import is_held_out


def read_texts(path: Path) -> tuple[str, ...]:
    """The texts of a file, in its order; `keep_back` parts them. Labels beside them are passed over.

    Raises:
        StorageError: it cannot be read.
        BadData: naming every line that is broken, or that there is no text.
    """
    problems = Problems(path, "lines")
    texts = tuple(text for _, text in texts_of(path, problems))
    problems.refuse()
    if not texts:
        raise BadData(f'expected texts in {path}, found none; write a text per line, or {{"text": ...}} in JSONL')
    return texts


def keep_back(texts: tuple[str, ...], share: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts to learn from, and those kept back: a text stays on its side when the file grows or is shuffled."""
    sides: tuple[list[str], list[str]] = ([], [])
    for text in texts:
        sides[is_held_out(text, "", share)].append(text)
    return tuple(sides[0]), tuple(sides[1])


def texts_of(path: Path, problems: Problems) -> Iterator[tuple[str, str]]:
    """Where, and text, of everything that is right.

    Raises:
        StorageError: the file cannot be read.
        BadData: it is a folder or arrays.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".npz":
        what = "a folder" if path.is_dir() else "arrays"
        raise BadData(f"expected a file of texts at {path}, found {what}; this bundle learns from text")
    found: Iterator[tuple[str, object]]
    if suffix == ".txt":
        found = ((f"line {number}", line.rstrip("\r\n")) for number, line in numbered(path, problems) if line.strip())
    elif suffix in (".csv", ".tsv"):
        found = ((where, cells[0]) for where, cells in records(path, ("text",), problems))
    else:
        found = ((f"line {number}", fields.get("text")) for number, fields in objects(path, problems))
    for where, text in found:
        if isinstance(text, str) and text.strip():
            yield where, text
        else:
            problems.add(where, f"expected 'text' with some text, found {str(text)[:40]!r}")
