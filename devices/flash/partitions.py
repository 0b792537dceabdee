"""The partitions of an image: MBR and GPT, read from their bytes; what is on them, by its magic.

MBR: four entries of 16 bytes from byte 446. GPT: UEFI Specification 2.10, sections 5.3.2 and 5.3.3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from console.errors import BadData

SECTOR = 512
LIMIT = 128  # of entries that are read of a GPT
LARGEST_ENTRY = 4096  # bytes; all known tables have 128
MBR_ENTRY = struct.Struct("<B3xB3xII")  # flag, type, first sector, sectors
GPT_HEADER = struct.Struct("<8s64xQII")  # signature, sector of the entries, their number, the size of each
GPT_ENTRY = struct.Struct("<16s16sQQQ72s")  # type, id, first sector, last sector, flags, name
EXT_MAGIC = b"\x53\xef"
EXT_MAGIC_AT = 1024 + 56
EXTENDED = (0x05, 0x0F, 0x85)

Holds = Literal["fat", "ext4", "other"]


@dataclass(frozen=True)
class Part:
    """A partition.

    Attributes:
        number: from 1, as systems count them.
        start_bytes: where it begins in the image.
        size_bytes: how long it is.
        holds: which file system.
        name: a GPT partition's; empty in an MBR.
    """

    number: int
    start_bytes: int
    size_bytes: int
    holds: Holds
    name: str = ""

    @property
    def end_bytes(self) -> int:
        """Where it ends."""
        return self.start_bytes + self.size_bytes


@dataclass(frozen=True)
class Partitions:
    """Those of an image in the order of their numbers, and the kind of table."""

    label: Literal["dos", "gpt"]
    parts: tuple[Part, ...]

    def last(self) -> Part:
        """The one that lies last."""
        return max(self.parts, key=lambda part: part.start_bytes)


def read_partitions(image: Path) -> Partitions:
    """Look at an image.

    Raises:
        BadData: it has no partition table, or one that leads out of it.
        StorageError: it cannot be read.
    """
    with image.open("rb") as file:
        size = file.seek(0, 2)
        found = table_in(file, image.name)
    outside = [part.number for part in found.parts if part.end_bytes > size or part.size_bytes <= 0]
    if outside:
        raise BadData(f"expected partitions within {image.name}, found {outside[0]} beyond its end; is it cut short?")
    return found


def table_in(file: BinaryIO, name: str) -> Partitions:
    """What a partition table says, also where the file ends before the partitions do.

    Raises:
        BadData: there is none.
    """
    first = _at(file, 0, SECTOR)
    if len(first) < SECTOR or first[510:] != b"\x55\xaa":
        raise BadData(f"expected a partition table in {name}, found none; give the image of a whole card")
    entries = [MBR_ENTRY.unpack_from(first, 446 + 16 * i) for i in range(4)]
    if any(kind == 0xEE for _, kind, _, _ in entries):
        found = Partitions("gpt", tuple(_gpt(file)))
    else:
        plain = [(i, start, count) for i, (_, kind, start, count) in enumerate(entries, 1) if _used(kind, count)]
        parts = (Part(i, start * SECTOR, count * SECTOR, _holds(file, start * SECTOR)) for i, start, count in plain)
        found = Partitions("dos", tuple(parts))
    if not found.parts:
        raise BadData(f"expected partitions in {name}, found an empty table; give the image of a whole card")
    return found


def _used(kind: int, count: int) -> bool:
    return kind != 0 and kind not in EXTENDED and count > 0


def _gpt(file: BinaryIO) -> list[Part]:
    header = _at(file, SECTOR, SECTOR).ljust(SECTOR, b"\0")
    signature, sector, number, size = GPT_HEADER.unpack_from(header)
    if signature != b"EFI PART" or not GPT_ENTRY.size <= size <= LARGEST_ENTRY:
        raise BadData("expected a GUID partition table, found a damaged one; fetch the image again")
    raw = _at(file, sector * SECTOR, min(number, LIMIT) * size)
    parts = []
    for i in range(len(raw) // size):
        kind, _, start, end, _, name = GPT_ENTRY.unpack_from(raw, i * size)
        if kind != bytes(16):
            label = name.decode("utf-16-le", errors="replace").partition("\0")[0]
            begins = start * SECTOR
            parts.append(Part(i + 1, begins, (end - start + 1) * SECTOR, _holds(file, begins), label))
    return parts


def _holds(file: BinaryIO, start: int) -> Holds:
    if _at(file, start + EXT_MAGIC_AT, 2) == EXT_MAGIC:
        return "ext4"
    boot = _at(file, start, SECTOR)
    return "fat" if boot[82:87] == b"FAT32" or boot[54:57] == b"FAT" else "other"


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    if offset > file.seek(0, 2):  # a damaged table may name a place that no file could have
        return b""
    file.seek(offset)
    return file.read(size)
