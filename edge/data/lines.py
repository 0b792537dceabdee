"""Lines of a text file, one at a time, whatever is in it: memory stays that of the longest line allowed."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from console.errors import StorageError
from edge.data.problems import Problems

LIMIT_BYTES = 1 << 20  # of one line
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def numbered(path: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of every line that is UTF-8; a byte order mark in front is left out.

    Lines of another encoding or without an end are problems, and the next line comes after them.

    Raises:
        StorageError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LIMIT_BYTES + 1):
                number += 1
                if number == 1 and line.startswith(UTF16):
                    problems.add("line 1", "expected UTF-8, found UTF-16; save the file as UTF-8")
                    return
                if len(line) > LIMIT_BYTES:
                    problems.add(f"line {number}", f"expected at most {LIMIT_BYTES} bytes, found more")
                    while line and not line.endswith(b"\n"):
                        line = file.readline(LIMIT_BYTES)
                    continue
                text = _text(line, number, problems)
                if text is not None:
                    yield number, text
    except OSError as error:
        raise StorageError(
            f"expected a data file at {path}, found none that can be read ({error.strerror or error}); check the path"
        ) from error


def _text(line: bytes, number: int, problems: Problems) -> str | None:
    try:
        return line.removeprefix(codecs.BOM_UTF8).decode() if number == 1 else line.decode()
    except UnicodeDecodeError as error:
        found = f"byte 0x{line[error.start]:02x} at place {error.start + 1}"
        problems.add(f"line {number}", f"expected UTF-8, found {found}; save the file as UTF-8")
        return None
