"""Labels that somebody on the board corrected: rows that training reads beside the data, and that win over it.

`rows.jsonl` is a data file by itself (docs/data.md): a row per correction, the newest last, with the SHA-256 of its
sample; `samples/` holds the files that rows name. A line that was being written when the power went is left out.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from console.errors import BadData, StorageError
from edge.data.lines import numbered
from edge.data.problems import Problems
from wire.files import digest, write_atomic
from wire.json_text import parse_json
from wire.record import DIGEST, at_least, matching, read_record

INDEX, SAMPLES = "rows.jsonl", "samples"
ROWS, LIMIT_BYTES = 4096, 64 << 20
SLACK = 256  # lines of before that the file may hold
PRIVATE = 0o600
FILE = r"samples/[0-9a-f]{64}\.[a-z]{3,4}"


@dataclass(frozen=True)
class Correction:
    """A line: a text, or the path of a file below the folder; its label; what it is of, and when it came."""

    label: str
    sample: str = field(metadata=matching(DIGEST))
    size: int = field(metadata=at_least(0))
    text: str | None = None
    image: str | None = field(default=None, metadata=matching(FILE))
    sound: str | None = field(default=None, metadata=matching(FILE))
    at: int = 0  # Unix time, by the board's clock

    @property
    def file(self) -> str | None:
        """The path of its file; None: it is a text."""
        return self.image or self.sound

    def line(self) -> bytes:
        """As it stands in the file."""
        fields = {name: value for name, value in vars(self).items() if value is not None}
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


class Corrections:
    """The folder, for the one process that writes it.

    Args:
        folder: made when the first correction comes.
        rows: at most; beyond it the oldest quarter goes.
        limit_bytes: of samples, likewise.
    """

    def __init__(self, folder: Path, rows: int = ROWS, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder, self._rows, self._limit_bytes = folder, rows, limit_bytes
        self._kept = read_corrections(folder)
        self._lines = rows + SLACK + 1  # what an earlier start left is tidied up at the next correction

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, column: str, data: bytes, suffix: str, label: str) -> bool:
        """Keep a sample's label; on disk when this returns. Returns whether it is news.

        Args:
            column: text, image or sound.
            data: the text's or the file's bytes.
            suffix: of the file.
            label: what it shows.

        Raises:
            StorageError: there is no room; nothing has changed.
        """
        name = digest(data)
        before = self._kept.get(name)
        if before is not None and before.label == label:
            return False
        content = data.decode() if column == "text" else f"{SAMPLES}/{name}{suffix}"
        made = Correction(label, name, len(data), at=int(time.time()), **{column: content})
        self._make_folders()
        if made.file is not None and not (self.folder / made.file).exists():
            write_atomic(self.folder / made.file, data, PRIVATE)
        kept = {**{k: c for k, c in self._kept.items() if k != name}, name: made}
        if self._too_many(kept) or self._lines > len(kept) + SLACK:
            self._write(self._newest(kept))
        else:
            self._append(made)
            self._kept = kept
        return True

    def _make_folders(self) -> None:
        """For their owner alone."""
        try:
            for folder in (self.folder, self.folder / SAMPLES):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"expected a folder for corrected labels at {self.folder}, but it cannot be made ({error.strerror})"
            ) from error

    def _too_many(self, kept: dict[str, Correction]) -> bool:
        return len(kept) > self._rows or sum(c.size for c in kept.values()) > self._limit_bytes

    def _newest(self, kept: dict[str, Correction]) -> dict[str, Correction]:
        """All of them, or where there are too many, the newest three quarters."""
        if not self._too_many(kept):
            return kept
        found, size = dict[str, Correction](), 0
        for name, one in reversed(kept.items()):
            size += one.size
            if found and (len(found) >= self._rows * 3 // 4 or size > self._limit_bytes * 3 // 4):
                break
            found[name] = one
        return dict(reversed(found.items()))

    def _append(self, made: Correction) -> None:
        try:
            with (self.folder / INDEX).open("ab") as file:
                file.write(made.line())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self._lines = self._rows + SLACK + 1  # half a line may be there: the next one writes all of them anew
            raise StorageError(
                f"expected to keep a label in {self.folder}, but the system said: {error.strerror}; free some space"
            ) from error
        self._lines += 1

    def _write(self, kept: dict[str, Correction]) -> None:
        """The file anew; samples that no row names go afterwards, so that none is lacking at any instant."""
        write_atomic(self.folder / INDEX, b"".join(one.line() for one in kept.values()), PRIVATE)
        self._kept, self._lines = kept, len(kept)
        named = {one.file for one in kept.values()}
        for path in (self.folder / SAMPLES).glob("*"):
            if f"{SAMPLES}/{path.name}" not in named:
                path.unlink(missing_ok=True)


def read_corrections(folder: Path) -> dict[str, Correction]:
    """The label that each sample was given last, by the sample's SHA-256, the newest last; what is broken is left out.

    Raises:
        StorageError: the file is there and cannot be read.
    """
    found: dict[str, Correction] = {}
    for one in _lines(folder / INDEX):
        found.pop(one.sample, None)
        found[one.sample] = one
    return found


def _lines(path: Path) -> Iterator[Correction]:
    if not path.exists():
        return
    for number, line in numbered(path, Problems(path, "lines")):
        try:
            one = read_record(Correction, parse_json(line), f"line {number}")
        except (ValueError, BadData):
            continue
        if (one.text is None) != (one.file is None):
            yield one
