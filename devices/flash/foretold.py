"""What an image's first bytes tell before it is unpacked: how large it is at least, and which programs it will need."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from devices.flash.limit import Limit
from devices.flash.partitions import table_in
from devices.flash.staging import head, size_of

HEAD_BYTES = 1 << 20  # a partition table, wherever its entries lie
EXT4_TOOLS = ("debugfs", "dumpe2fs", "e2fsck")
ROOM_TOOLS = ("sfdisk", "resize2fs")
FAT_TOOLS = ("mcopy", "mdel", "mdir", "mmd")


@dataclass(frozen=True)
class Foretold:
    """An image that was not unpacked yet.

    Attributes:
        size_bytes: of it, as its file or its partition table says; it may be larger.
        tools: programs that it will need.
    """

    size_bytes: int
    tools: tuple[str, ...]


def foretell(image: Path, limit: Limit) -> Foretold:
    """Read the head of an image, packed or not.

    Args:
        image: as it was given.
        limit: most that it may become.

    Raises:
        DoesNotFit: it is larger; both sizes are named.
        EdgequiltError: it is no image, or damaged; see `devices.flash.staging.stage`.
    """
    size = size_of(image) or 0
    limit.require(size)
    parts = table_in(io.BytesIO(head(image, HEAD_BYTES)), image.name).parts
    size = max(size, *(part.end_bytes for part in parts))
    limit.require(size)
    # a root alone needs no mtools; beside one there is hardly ever no FAT
    fat = FAT_TOOLS if len(parts) > 1 else ()
    return Foretold(size, (*EXT4_TOOLS, *ROOM_TOOLS, *fat))
