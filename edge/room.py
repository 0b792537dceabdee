"""Whether a disk has room for what is to be fetched: asked before the first byte is."""

from __future__ import annotations

import os
from pathlib import Path

from console.errors import StorageError
from console.table import mib

SPARE_BYTES = 100_000_000  # left to versions, updates and everybody else
TIMES = 2  # what is fetched lies there twice for a while: packed and unpacked, or beside what it replaces


def check_room(folder: Path, size_bytes: int, what: str) -> None:
    """Refuse what the disk would not take well: it must have twice the size, and 100 MB, free.

    Args:
        folder: on that disk.
        size_bytes: of what still lacks.
        what: it is, for the sentence.

    Raises:
        StorageError: there is less.
    """
    told = os.statvfs(folder)
    free, needed = told.f_bavail * told.f_frsize, TIMES * size_bytes + SPARE_BYTES
    if size_bytes > 0 and free < needed:
        raise StorageError(
            f"expected {mib(needed)} free on the disk of {folder} for {what} of {mib(size_bytes)} (twice that, and "
            f"{mib(SPARE_BYTES)} to spare), found {mib(free)}; free some space"
        )
