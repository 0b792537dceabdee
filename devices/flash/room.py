"""A larger root: the last partition of an image, its file system and the image itself grow by what is to be placed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from console.errors import StorageError
from console.table import mib
from devices.flash.ext4 import Ext4
from devices.flash.needs import Needs
from devices.flash.partitions import Part, read_partitions
from devices.flash.tools import run

STEP_BYTES = 4 << 20  # images grow by whole steps: cards are written in such blocks
CHUNK_BYTES = 1 << 20
BACKUP_BYTES = 1 << 20  # of a GPT, behind the last partition


@dataclass(frozen=True)
class Growth:
    """What an image will be.

    Attributes:
        more_bytes: by which its root grows; 0: it has room enough.
        size_bytes: of the image then.
    """

    more_bytes: int
    size_bytes: int


def foreseen(image: Path, part: Part, needs: Needs) -> Growth:
    """How much larger an image must be; nothing is changed.

    Args:
        image: a raw image.
        part: its root.
        needs: of what will be placed.

    Raises:
        StorageError: the root is not the last partition, so that it cannot grow.
    """
    tree, size = Ext4(image, part), image.stat().st_size
    missing = needs.beyond(tree.free())
    if not missing.any:
        return Growth(0, size)
    table = read_partitions(image)
    if table.last().number != part.number:
        raise StorageError(
            f"expected {mib(needs.bytes)} and {needs.inodes} inodes free in partition {part.number}, found "
            f"{mib(missing.bytes)} and {missing.inodes} too little, and it is not the last one, so it cannot grow; "
            "take an image with more room"
        )
    wanted = missing.bytes + missing.bytes // 12 + STEP_BYTES  # tables of the file system grow, too
    # inodes come with groups of blocks, and with whole ones only
    wanted = max(wanted, tree.bytes_for(missing.inodes))
    more = -(-wanted // STEP_BYTES) * STEP_BYTES
    return Growth(more, part.end_bytes + more + (BACKUP_BYTES if table.label == "gpt" else 0))


def grown(image: Path, part: Part, needs: Needs, say: Callable[[str], None] = lambda text: None) -> Part:
    """The root partition with enough room; the image is changed only if it has too little.

    Args:
        image: a raw image that may be changed.
        part: its root.
        needs: of what will be placed.
        say: told what takes its time.

    Raises:
        StorageError: it is not the last partition, or the tools fail.
    """
    growth = foreseen(image, part, needs)
    if not growth.more_bytes:
        return part
    say("enlarging the root file system")
    os.truncate(image, growth.size_bytes)
    if read_partitions(image).label == "gpt":
        run("sfdisk", ["-q", "--no-tell-kernel", "--relocate", "gpt-bak-std", image])
    size = f",{(part.size_bytes + growth.more_bytes) // 512}\n"
    run("sfdisk", ["-q", "--no-reread", "--no-tell-kernel", "-N", str(part.number), image], given=size)
    larger = next(p for p in read_partitions(image).parts if p.number == part.number)
    _resize(image, part, larger)
    return larger


def _resize(image: Path, part: Part, larger: Part) -> None:
    """resize2fs knows no offsets: the partition is taken out, grown, and put back."""
    alone = image.with_name(image.name + ".root")
    try:
        _copy(image, part.start_bytes, part.size_bytes, alone, 0)
        os.truncate(alone, larger.size_bytes)
        run("e2fsck", ["-f", "-p", alone], ok=(0, 1))
        run("resize2fs", [alone])
        _copy(alone, 0, larger.size_bytes, image, larger.start_bytes)
    finally:
        alone.unlink(missing_ok=True)


def _copy(source: Path, start: int, size: int, target: Path, at: int) -> None:
    """Bytes from one sparse file to another; holes stay holes where the target has none of its own."""
    flags = os.O_RDWR | os.O_CREAT
    reading, writing = os.open(source, os.O_RDONLY), os.open(target, flags, 0o600)
    try:
        fresh = os.fstat(writing).st_size == 0
        for offset in range(0, size, CHUNK_BYTES):
            chunk = os.pread(reading, min(CHUNK_BYTES, size - offset), start + offset)
            if not fresh or chunk.count(0) != len(chunk):
                os.pwrite(writing, chunk, at + offset)
        if fresh:
            os.truncate(writing, at + size)
    finally:
        os.close(reading)
        os.close(writing)
