"""A waiting update's file: its bytes, and behind them, as JSON, what they are, so that the file is enough to send it.

The bytes, the JSON, its length (4 bytes, little-endian), `EQUPDATE`.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.errors import BadData
from wire.files import BLOCK_BYTES
from wire.json_text import parse_json
from wire.messages import UPDATE_LIMIT_BYTES
from wire.record import DIGEST, at_least, matching, plain, read_record

MAGIC = b"EQUPDATE"
TAIL_BYTES = 4 + len(MAGIC)
LIMIT_BYTES = 1 << 20  # of the JSON


LARGEST = (1 << 63) - 1  # of what SQLite keeps


@dataclass(frozen=True)
class Update:
    """What a waiting update is; the fields of Begin without its sender."""

    update: str = field(metadata=matching(DIGEST))
    kind: str
    job: str
    round: int = field(metadata=at_least(0, LARGEST))
    base: str
    bytes: int = field(metadata=at_least(1, UPDATE_LIMIT_BYTES))
    samples: int = field(metadata=at_least(0, LARGEST))
    metrics: dict[str, Any] = field(default_factory=dict)


def describe(path: Path, update: Update) -> None:
    """Write behind the bytes what they are; it is on disk when this returns."""
    text = json.dumps(plain(update)).encode()
    with path.open("r+b") as file:
        file.truncate(update.bytes)
        file.seek(update.bytes)
        file.write(text + len(text).to_bytes(4, "little") + MAGIC)
        file.flush()
        os.fsync(file.fileno())


def strip(path: Path, update: Update) -> None:
    """Take away what was written behind the bytes."""
    os.truncate(path, update.bytes)


def described(path: Path) -> Update | None:
    """What a file says that it is; None if it says nothing."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read()
        length = int.from_bytes(tail[:4], "little")
        if len(tail) < TAIL_BYTES or tail[4:] != MAGIC or not 0 < length <= min(LIMIT_BYTES, size - TAIL_BYTES):
            return None
        file.seek(size - TAIL_BYTES - length)
        try:
            return read_record(Update, parse_json(file.read(length), finite=False), "a waiting update")
        except (ValueError, BadData):
            return None


def is_whole(path: Path, update: Update) -> bool:
    """Whether the bytes are those of the digest."""
    sha, left = hashlib.sha256(), update.bytes
    try:
        with path.open("rb") as file:
            while left and (block := file.read(min(left, BLOCK_BYTES))):
                sha.update(block)
                left -= len(block)
    except OSError:
        return False
    return left == 0 and sha.hexdigest() == update.update
