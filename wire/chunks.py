"""Cut bytes into chunks and put them together again, in any order, with repeats, over many days."""

from __future__ import annotations

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
        last = chunk.index == self.total - 1
        length = self.size_bytes - chunk.index * self.chunk_bytes if last else self.chunk_bytes
        if chunk.blob != self.sha256 or chunk.index >= self.total or len(chunk.data) != length:
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
