"""How fast a folder's disk takes and gives bytes: one file without a name, so that nothing of it can stay."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from console.errors import StorageError
from console.table import mib

BYTES, BLOCK_BYTES = 64 << 20, 1 << 20
SHARE = 20  # of what is free, one part is taken at most
LONGEST_S = 10.0  # of writing: cards may be slow


@dataclass(frozen=True)
class Disk:
    """Bytes per second, written until the disk has them and read back from it; how many, and of what file system."""

    write_bytes_per_s: int
    read_bytes_per_s: int
    tried_bytes: int
    free_bytes: int
    device: str = ""


def disk(folder: Path, size_bytes: int = BYTES) -> Disk:
    """Write, sync and read.

    Args:
        folder: whose disk it is.
        size_bytes: to write at most; less where it is slow, or nearly full.

    Raises:
        StorageError: the folder takes no file, or there is no room.
    """
    try:
        told = os.statvfs(folder)
        free = told.f_bavail * told.f_frsize
        size = min(size_bytes, free // SHARE) // BLOCK_BYTES * BLOCK_BYTES
        if size < BLOCK_BYTES:
            raise StorageError(
                f"expected {mib(SHARE * BLOCK_BYTES)} free in {folder} to measure it, found {mib(free)}; free some"
            )
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            written, wrote_s = _write(file.fileno(), size)
            read_s = _read(file.fileno(), written)
    except OSError as error:
        raise StorageError(
            f"expected to write a file into {folder}, stopped ({error.strerror}); name another --folder"
        ) from error
    return Disk(int(written / wrote_s), int(written / read_s), written, free, device_of(folder))


def _write(file: int, size: int) -> tuple[int, float]:
    """Bytes that no disk can make smaller, and the seconds until it has them."""
    block, written, began = os.urandom(BLOCK_BYTES), 0, time.monotonic()
    while written < size and time.monotonic() - began < LONGEST_S:
        written += os.write(file, block)
        os.fdatasync(file)
    return written, max(1e-9, time.monotonic() - began)


def _read(file: int, size: int) -> float:
    """Seconds; the pages that are in memory are forgotten first."""
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(file, 0, os.SEEK_SET)
    began = time.monotonic()
    while size > 0 and (data := os.read(file, BLOCK_BYTES)):
        size -= len(data)
    return max(1e-9, time.monotonic() - began)


def device_of(folder: Path, root: Path = Path("/")) -> str:
    """The device and file system that a folder is on, as `mmcblk0p2 (ext4)`; empty where nobody knows."""
    best, found = -1, ""
    try:
        place = str(folder.resolve())
        lines = (root / "proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        device, at, kind, *_ = [*line.split(), "", "", ""]
        at = at.replace("\\040", " ")
        if (place == at or place.startswith(at.rstrip("/") + "/")) and len(at) >= best:
            best, found = len(at), f"{device.removeprefix('/dev/')} ({kind})"
    return found
