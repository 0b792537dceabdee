"""What a payload takes of a file system: bytes, and inodes, which run out by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from devices.payload.placed import Payload
from devices.payload.release import size_of

BLOCK_BYTES = 4096
ENTRY_BYTES = 512  # an inode and its name in a folder, on average
MARGIN_BYTES = 16 << 20  # left free beside what is written
MARGIN_INODES = 256  # the system makes files at its first start


@dataclass(frozen=True)
class Needs:
    """Room, in both of the ways in which a file system has an end.

    >>> Needs(5, 1).beyond(Needs(3, 4))
    Needs(bytes=2, inodes=0)
    """

    bytes: int = 0
    inodes: int = 0

    def beyond(self, free: Needs) -> Needs:
        """What is missing."""
        return Needs(max(0, self.bytes - free.bytes), max(0, self.inodes - free.inodes))

    @property
    def any(self) -> bool:
        """Whether it is more than nothing."""
        return self.bytes > 0 or self.inodes > 0


def needs_of(payload: Payload) -> Needs:
    """What a payload takes at most, and what shall be free beside it.

    Whole blocks, and an inode for each file, link and folder, as if none of them was there.
    """
    entries = len({placed.path for placed in payload.files} | {link.path for link in payload.links})
    folders = len(folders_of(payload))
    sizes = sum(-(-size_of(placed) // BLOCK_BYTES) * BLOCK_BYTES for placed in payload.files)
    taken = sizes + entries * ENTRY_BYTES + folders * BLOCK_BYTES
    return Needs(taken + MARGIN_BYTES, entries + folders + MARGIN_INODES)


def folders_of(payload: Payload) -> list[str]:
    """Every folder on the way to what is placed, in order."""
    paths = [placed.path for placed in payload.files] + [link.path for link in payload.links]
    paths += [f"{path}/-" for path, _ in payload.folders]
    return sorted({str(parent) for path in paths for parent in PurePosixPath(path).parents[:-1]})
