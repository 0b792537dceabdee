"""Whether anybody answers at the broker's address: a plain connection, of the system alone, that says nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

EVERY_S, PATIENCE_S = 30.0, 10.0


class Reach:
    """Looks now and then, on a thread of its own.

    Args:
        host, port: of the broker.
        tell: told what was found, from that thread.
    """

    def __init__(self, host: str, port: int, tell: Callable[[bool], None], every_s: float = EVERY_S) -> None:
        self._address, self._tell, self._every_s = (host, port), tell, every_s
        self._looked_at, self._thread = -1e9, threading.Thread(target=lambda: None)

    def look(self, now: float) -> None:
        """Look, if it is time."""
        if now - self._looked_at >= self._every_s and not self._thread.is_alive():
            self._looked_at = now
            self._thread = threading.Thread(target=self._run, name="reach", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        self._tell(reaches(*self._address))


def reaches(host: str, port: int) -> bool:
    """Whether a connection is taken there."""
    try:
        with socket.create_connection((host, port), timeout=PATIENCE_S):
            return True
    except OSError:
        return False
