"""How much an .xz file becomes, without unpacking it.

The .xz File Format 1.2.1, sections 2.1.2 (footer) and 4 (index): each stream ends with an index of its blocks.
"""

from __future__ import annotations

import struct
from pathlib import Path


def xz_size(image: Path) -> int | None:
    """Bytes that it becomes: the sum of what the indexes of its streams say; None where they do not add up.

    Raises:
        OSError: it cannot be read.
    """
    total, end = 0, image.stat().st_size
    with image.open("rb") as file:
        while end > 0:
            if end < 24:  # a header and a footer
                return None
            file.seek(end - 12)
            footer = file.read(12)
            if len(footer) < 12 or footer[10:] != b"YZ":
                return None
            back = (struct.unpack("<I", footer[4:8])[0] + 1) * 4
            if back > end - 24:
                return None
            file.seek(end - 12 - back)
            sizes = _index(file.read(back))
            if sizes is None:
                return None
            end -= 12 + back + 12 + sum((unpadded + 3) // 4 * 4 for unpadded, _ in sizes)
            total += sum(size for _, size in sizes)
    return total


def _index(raw: bytes) -> list[tuple[int, int]] | None:
    """Unpadded and uncompressed sizes of the blocks of a stream."""
    numbers, at = list[int](), 1
    while at < len(raw) - 4:
        value, shift = 0, 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80 or shift > 63 or at >= len(raw):
                break
        numbers.append(value)
        if len(numbers) == 1 + 2 * numbers[0]:
            return list(zip(numbers[1::2], numbers[2::2], strict=True))
    return None
