"""Files as they shall be on a board, whatever carries them there: debugfs, a folder, SSH."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Placed:
    """A file on a board.

    Attributes:
        path: absolute, on the board (in a FAT partition: from its root).
        content: the bytes themselves, or a file of this machine.
        mode: permission bits. Files belong to root; `StateDirectory=` gives those below HOME to the agent.
    """

    path: str
    content: bytes | Path
    mode: int = 0o644


@dataclass(frozen=True)
class Linked:
    """A symbolic link on a board, and what it says."""

    path: str
    target: str


@dataclass(frozen=True)
class Payload:
    """What shall be there, and what no longer; folders on the way are made with mode 0755, or as `folders` say.

    >>> (Payload(files=(Placed("/a", b""),)) + Payload(links=(Linked("/b", "a"),))).links
    (Linked(path='/b', target='a'),)
    """

    files: tuple[Placed, ...] = ()
    links: tuple[Linked, ...] = ()
    folders: tuple[tuple[str, int], ...] = ()
    removed: tuple[str, ...] = ()

    def __add__(self, other: Payload) -> Payload:
        """Both; where both say something of a path, the later holds."""
        return Payload(
            self.files + other.files,
            self.links + other.links,
            self.folders + other.folders,
            self.removed + other.removed,
        )
