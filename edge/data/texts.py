"""The door of texts without labels, for models that generate: what a model learns to go on from.

| file | a text is | in front of it may stand |
|---|---|---|
| `.txt` | a line | |
| `.csv`, `.tsv` | the cell of the column `text` | that of the column `prompt` |
| any other | the field `text` of a JSON object per line | the field `prompt` |

A prompt is read and not learned: what is learned is to go on with the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from console.errors import BadData
from edge.data.csv_file import records
from edge.data.jsonl import objects
from edge.data.lines import numbered
from edge.data.problems import Problems
from edge.data.wanted import Found, Wanted


@dataclass(frozen=True)
class Passage:
    """A text to learn from; of a prompt in front of it nothing is learned."""

    text: str
    prompt: str = ""

    @property
    def key(self) -> str:
        """What it is kept back by."""
        return f"{self.prompt}\0{self.text}" if self.prompt else self.text


def read_passages(path: Path) -> tuple[Passage, ...]:
    """The texts of a file with their prompts, in its order. Labels are passed over.

    Raises:
        StorageError: it cannot be read.
        BadData: naming every line that is broken, or that there is no text.
    """
    problems = Problems(path, "lines")
    passages = tuple(passage for _, passage in passages_of(path, problems))
    problems.refuse()
    if not passages:
        raise BadData(f'expected texts in {path}, found none; write a text per line, or {{"text": ...}} in JSONL')
    return passages


def read_texts(path: Path) -> tuple[str, ...]:
    """The texts of a file alone.

    Raises:
        StorageError, BadData: see `read_passages`.
    """
    return tuple(passage.text for passage in read_passages(path))


def found_passages(path: Path, wanted: Wanted, problems: Problems) -> Iterator[Found]:
    """The same as rows of `edge.data.formats`: of one class, which has no name.

    Raises:
        StorageError, BadData: see `passages_of`.
    """
    for where, passage in passages_of(path, problems):
        yield Found(where, passage, "", passage.key)


def passages_of(path: Path, problems: Problems) -> Iterator[tuple[str, Passage]]:
    """Where, and text, of everything that is right.

    Raises:
        StorageError: the file cannot be read.
        BadData: it is a folder or arrays.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".npz":
        what = "a folder" if path.is_dir() else "arrays"
        raise BadData(f"expected a file of texts at {path}, found {what}; this bundle learns from text")
    found: Iterator[tuple[str, object, object]]
    if suffix == ".txt":
        found = ((f"line {n}", line.rstrip("\r\n"), "") for n, line in numbered(path, problems) if line.strip())
    elif suffix in (".csv", ".tsv"):
        found = ((where, text, prompt) for where, (text, prompt) in records(path, ("text",), problems, ("prompt",)))
    else:
        found = ((f"line {n}", fields.get("text"), fields.get("prompt", "")) for n, fields in objects(path, problems))
    for where, text, prompt in found:
        if not isinstance(text, str) or not text.strip():
            problems.add(where, f"expected 'text' with some text, found {str(text)[:40]!r}")
        elif not isinstance(prompt, str):
            problems.add(where, f"expected 'prompt' to be text, found {str(prompt)[:40]!r}")
        else:
            yield where, Passage(text, prompt)
