"""Cut bytes into chunks and put them together again, in any order, with repeats, over many days."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from wire.files import digest
from wire.messages import CHUNK_BYTES, Chunk


def chunk_count(size_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> int:
    """How many chunks carry so many bytes.

    >>> chunk_count(1), chunk_count(65536), chunk_count(65537)
    (1, 1, 2)
    """
    return max(1, -(-size_bytes // chunk_bytes))


def cut(data: bytes, indexes: tuple[int, ...] = (), chunk_bytes: int = CHUNK_BYTES) -> list[Chunk]:
    """The chunks of some bytes, all or those asked for; indexes that do not exist are left out."""
    name, total = digest(data), chunk_count(len(data), chunk_bytes)
    wanted = indexes or tuple(range(total))
    return [Chunk(name, i, total, data[i * chunk_bytes : (i + 1) * chunk_bytes]) for i in wanted if i < total]


def fits(chunk: Chunk, size_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> bool:
    """Whether a chunk has a place, and the length of that place, in so many bytes."""
    total = chunk_count(size_bytes, chunk_bytes)
    length = size_bytes - chunk.index * chunk_bytes if chunk.index == total - 1 else chunk_bytes
    return chunk.index < total and len(chunk.data) == length


def ranges_of(indexes: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """First and last index of each run of ascending indexes.

    >>> ranges_of((0, 1, 2, 7, 9, 10))
    ((0, 2), (7, 7), (9, 10))
    """
    runs: list[list[int]] = []
    for index in indexes:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return tuple((first, last) for first, last in runs)


def indexes_of(ranges: Iterable[Sequence[int]], total: int) -> tuple[int, ...]:
    """The indexes below `total` that ranges name, each once, ascending; what is no range is left out.

    >>> indexes_of(((7, 1 << 60), (0, 1), (1, 2), (5, 4), (3,)), 9)
    (0, 1, 2, 7, 8)
    """
    pairs = [r for r in ranges if len(r) == 2]
    return tuple(sorted({i for first, last in pairs for i in range(max(0, first), min(last + 1, total))}))


@dataclass
class Assembly:
    """Bytes that arrive in pieces. Chunks that do not fit are ignored; the digest decides at the end."""

    sha256: str
    size_bytes: int
    chunk_bytes: int = CHUNK_BYTES
    parts: dict[int, bytes] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of chunks expected."""
        return chunk_count(self.size_bytes, self.chunk_bytes)

    def add(self, chunk: Chunk) -> bool:
        """Take a chunk; False if it cannot belong here."""
        if chunk.blob != self.sha256 or not fits(chunk, self.size_bytes, self.chunk_bytes):
            return False
        self.parts.setdefault(chunk.index, chunk.data)
        return True

    def missing(self) -> tuple[int, ...]:
        """Indexes still to come."""
        return tuple(i for i in range(self.total) if i not in self.parts)

    def join(self) -> bytes | None:
        """The bytes, or None when their digest is wrong: then everything collected is dropped."""
        data = b"".join(self.parts[i] for i in range(self.total))
        if digest(data) == self.sha256:
            return data
        self.parts.clear()
        return None
