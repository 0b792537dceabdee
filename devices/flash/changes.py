"""Between the half that knows systems (devices.flash.systems) and the half that knows images and disks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from devices.payload.placed import Payload


class Tree(Protocol):
    """A file system of an image, or a folder, to look into."""

    def read(self, path: str) -> bytes | None:
        """A small file (at most 1 MiB, links followed), or None: there is none."""

    def read_whole(self, path: str) -> bytes | None:
        """A file of any size that is worth reading, links followed."""

    def names(self, path: str) -> tuple[str, ...]:
        """What a folder holds; nothing where there is none."""


@dataclass(frozen=True)
class Seen:
    """What an image holds.

    Attributes:
        root: its ext4 root file system.
        boot: its FAT boot partition, where it has one.
    """

    root: Tree
    boot: Tree | None = None


@dataclass(frozen=True)
class Changes:
    """What shall be written into an image before it is written onto a card.

    Attributes:
        boot: into the FAT partition, paths from its root.
        root: into the root file system.
        said: what the user should know, one sentence each (firmware that must match, what the first start does).
    """

    boot: Payload = field(default_factory=Payload)
    root: Payload = field(default_factory=Payload)
    said: tuple[str, ...] = ()
