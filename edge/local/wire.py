"""A connection as a file that ends at a deadline and after so many bytes, however slowly they come."""

from __future__ import annotations

import io
import socket
import time
from typing import Any


class TooMuch(Exception):  # an answer to it ends the connection
    """More bytes than may come."""


class Wire(io.RawIOBase):
    """What comes on a socket. A byte now and then keeps nobody waiting: the deadline is of the whole."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self._ends_at, self._left = 0.0, 0

    def fresh(self, seconds: float, limit_bytes: int) -> None:
        """From now on so long, and so many bytes."""
        self._ends_at, self._left = time.monotonic() + seconds, limit_bytes

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Some bytes.

        Raises:
            TimeoutError: the time is over.
            TooMuch: more than may come.
        """
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if self._left <= 0:
            raise TooMuch
        self._connection.settimeout(left_s)
        view = memoryview(buffer)[: self._left]
        count = self._connection.recv_into(view)
        self._left -= count
        return count
