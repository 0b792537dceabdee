"""Why the agent ended last, beside agent.toml: what a board that only starts again and again would say.

One small file, replaced each time and removed when a start gets through; also before there is a state folder.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from console.errors import EdgequiltError
from wire.files import read_bytes, write_atomic
from wire.json_text import parse_json
from wire.record import at_least, plain, read_record

FILE = "ended.json"
LIMIT_BYTES = 65536
LONGEST = 2000


@dataclass(frozen=True)
class Ended:
    """ended.json.

    Attributes:
        kind: class of the error.
        sentence: what it said.
        times: in a row that the agent ended so.
        at_s: when that was, by the board's clock.
    """

    kind: str
    sentence: str
    times: int = field(default=1, metadata=at_least(1))
    at_s: float = 0.0


def note_end(folder: Path, error: EdgequiltError, at_s: float) -> None:
    """Say why; a folder that cannot be written is trouble enough."""
    kind, sentence = type(error).__name__, str(error)[:LONGEST]
    before = read_end(folder)
    again = before is not None and (before.kind, before.sentence) == (kind, sentence)
    times = before.times + 1 if again and before is not None else 1
    with suppress(EdgequiltError):
        write_atomic(folder / FILE, json.dumps(plain(Ended(kind, sentence, times, at_s))).encode())


def forget_end(folder: Path) -> None:
    """A start got through."""
    with suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def read_end(folder: Path) -> Ended | None:
    """Why the last start ended; None: it did not, or nobody knows."""
    with suppress(EdgequiltError, ValueError):
        return read_record(Ended, parse_json(read_bytes(folder / FILE, "a last word", LIMIT_BYTES)), FILE)
    return None
