"""The door of a folder of files: JSONL and CSV at any depth, for models of texts; lines where they need no label.

A file with a broken line is left out as a whole, and is one problem of the folder; the other files are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge.data.csv_file import read_csv
from edge.data.folder import files_in
from edge.data.jsonl import read_jsonl
from edge.data.problems import Problems
from edge.data.texts import found_passages
from edge.data.wanted import Found, Wanted

READERS = {".jsonl": read_jsonl, ".csv": read_csv, ".tsv": read_csv}
WITHOUT_LABELS = dict.fromkeys((*READERS, ".txt"), found_passages)


def read_files(path: Path, wanted: Wanted, problems: Problems) -> Iterator[Found]:
    """Rows of every file, in the order of their names.

    Raises:
        StorageError: the folder or a file cannot be read.
    """
    readers = WITHOUT_LABELS if wanted.passages else READERS
    for file in files_in(path):
        name = file.relative_to(path).as_posix()
        read = readers.get(file.suffix.lower())
        if read is None:
            problems.add(name, f"expected {', '.join(readers)}, found {file.suffix or 'no suffix'}")
            continue
        own = Problems(file, "lines")
        for found in read(file, wanted, own):  # read twice, since its last line may be what is broken
            wrong = wanted.unknown(found.label)
            if wrong is not None:
                own.add(found.where, wrong)
        if own.count:
            more = f" (and {own.count - 1} more)" if own.count > 1 else ""
            problems.add(name, f"{own.sentences[0]}{more}")
            continue
        for found in read(file, wanted, Problems(file, "lines")):
            yield Found(f"{name}, {found.where}", found.sample, found.label, found.key)
