"""What is in an image that was staged: its root and its FAT partition, and writing changes into both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from console.errors import BadData
from devices.flash.changes import Changes, Seen
from devices.flash.ext4 import Ext4
from devices.flash.fat import Fat
from devices.flash.needs import needs_of
from devices.flash.partitions import Part, read_partitions
from devices.flash.room import Growth, foreseen, grown


@dataclass(frozen=True)
class Image:
    """A raw image that may be changed.

    Attributes:
        path: of it.
        root: the partition of the root file system.
        boot: the first FAT partition, where there is one.
    """

    path: Path
    root: Part
    boot: Part | None

    @property
    def seen(self) -> Seen:
        """To look into."""
        return Seen(Ext4(self.path, self.root), None if self.boot is None else Fat(self.path, self.boot))

    def foreseen(self, changes: Changes) -> Growth:
        """How large it will be with some changes; nothing is changed.

        Raises:
            StorageError: the root has too little room and cannot grow.
        """
        return foreseen(self.path, self.root, needs_of(changes.root))

    def change(self, changes: Changes, say: Callable[[str], None] = lambda text: None) -> Image:
        """Write changes; the root grows if it must.

        Raises:
            EdgequiltError: see `devices.flash.ext4.Ext4.inject` and `devices.flash.room.grown`.
        """
        made = replace(self, root=grown(self.path, self.root, needs_of(changes.root), say))
        say("placing the agent into the image")
        Ext4(made.path, made.root).inject(changes.root)
        if changes.boot.files or changes.boot.removed:
            if made.boot is None:
                raise BadData("expected a FAT partition for what the system reads at its first start, found none")
            Fat(made.path, made.boot).inject(changes.boot)
        return made


def open_image(path: Path) -> Image:
    """Find the partitions of an image.

    Raises:
        BadData: there is no ext4 partition with a system in it, or one that was not unmounted.
    """
    parts = read_partitions(path).parts
    linux = [part for part in parts if part.holds == "ext4"]
    damaged = [part for part in linux if Ext4(path, part).needs_recovery()]
    if damaged:
        raise BadData(
            f"expected file systems that were unmounted, found partition {damaged[0].number} whose journal was not "
            "replayed; take an untouched image"
        )
    roots = [part for part in linux if "etc" in Ext4(path, part).names("/")]
    if not roots:
        found = ", ".join(f"{part.number}: {part.holds}" for part in parts)
        raise BadData(f"expected an ext4 partition with a system's root, found none ({found}); is it a card's image?")
    root = max(roots, key=lambda part: part.size_bytes)
    return Image(path, root, next((part for part in parts if part.holds == "fat"), None))
