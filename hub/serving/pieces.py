"""Blobs as they are sent: their chunks, encoded once for all who fetch them at about the same time.

A fleet fetches the same version at once. What waits for a slow board is then the same bytes that wait for all others,
and a file is read and its digest taken once, not for every board.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from wire.chunks import cut
from wire.messages import encode

LIMIT_BYTES = 16 << 20


@dataclass
class Pieces:
    """Those of the blobs that were asked for last, up to so many bytes."""

    limit_bytes: int = LIMIT_BYTES
    _known: dict[str, list[bytes]] = field(default_factory=dict)

    def of(self, name: str, read: Callable[[], bytes]) -> list[bytes]:
        """The chunk messages of a blob, in order; it is read if it is not known."""
        found = self._known.pop(name, None)
        if found is None:
            found = [encode(chunk) for chunk in cut(read())]
        if _size(found) <= self.limit_bytes:
            self._known[name] = found
            while sum(map(_size, self._known.values())) > self.limit_bytes:
                del self._known[next(iter(self._known))]
        return found


def _size(pieces: list[bytes]) -> int:
    return sum(map(len, pieces))
