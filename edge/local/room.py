"""Memory for bodies that are read at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edge.local.refused import Refused

LIMIT_BYTES = 16 << 20


class Room:
    """So many bytes in all; whoever finds no room is told so, and not kept waiting."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._left, self._lock = limit_bytes, threading.Lock()

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Room for a body, until the block ends.

        Raises:
            Refused: there is none.
        """
        with self._lock:
            if size > self._left:
                raise Refused(503, "expected room for another body, found large ones of others; ask again")
            self._left -= size
        try:
            yield
        finally:
            with self._lock:
                self._left += size
