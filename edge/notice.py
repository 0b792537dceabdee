"""What the agent tells systemd (sd_notify(3)): that it runs, that it still turns, what it is about, that it ends.

Datagrams to the socket that NOTIFY_SOCKET names; without it nothing is said and nothing is due. The service is ready
as soon as the program runs: a board without its network must not keep the system from finishing its start, so that it
waits to be claimed is said in the status, not by a start that never ends.

While the agent starts (claims, compares a bundle with its manifest, reads its data) the watchdog has patience of
another order; systemd takes it by a message of its own (WATCHDOG_USEC).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

SHARE = 3  # times within the watchdog's limit that it is fed
PATIENCE_S = 900.0  # for a start: hundreds of megabytes from a slow card, or the longest pause of a claim
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notice:
    """One program's line to systemd.

    Args:
        environment: of the process.
        clock: seconds that only grow.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._limit_s = _limit_s(environment) if self._address else None
        self._clock, self._fed_at, self._status = clock, -1e9, ""

    def ready(self) -> None:
        """The program runs."""
        self._tell("READY=1")

    def patient(self) -> None:
        """What comes now may take minutes; again before each part that may."""
        self._watch(PATIENCE_S)

    def strict(self) -> None:
        """From here on the core turns."""
        self._watch(0.0)

    def status(self, line: str) -> None:
        """What the agent is about, in one line; said when it changes."""
        line = " ".join(line.split())
        if line != self._status:
            self._status = line
            self._tell(f"STATUS={line}")

    def beat(self, lives: Callable[[], bool]) -> float | None:
        """Feed the watchdog if it is time and everything lives; returns when to come again, in seconds.

        None: there is no watchdog.
        """
        if self._limit_s is None:
            return None
        every_s, now = self._limit_s / SHARE, self._clock()
        if now - self._fed_at < every_s:
            return every_s - (now - self._fed_at)
        if lives():
            self._fed_at = now
            self._tell("WATCHDOG=1")
        return every_s

    def stopping(self) -> None:
        """The program ends."""
        self._tell("STOPPING=1")

    def _watch(self, at_least_s: float) -> None:
        if self._limit_s is not None:
            self._tell(f"WATCHDOG_USEC={max(self._limit_s, at_least_s) * 1e6:.0f}\nWATCHDOG=1")

    def _tell(self, text: str) -> None:
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.settimeout(1.0)  # a system that does not read must not stop the core
                line.sendto(text.encode(), self._address)


def _address(name: str) -> bytes:
    r"""Of a socket: a path, or a name of Linux's own that begins with `@`; empty: none, or of a kind we do not know.

    >>> _address("/run/systemd/notify"), _address("@heard"), _address("vsock:2:9"), _address("")
    (b'/run/systemd/notify', b'\x00heard', b'', b'')
    """
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    return os.fsencode(name) if name.startswith("/") else b""


def _limit_s(environment: Mapping[str, str]) -> float | None:
    """How long the watchdog waits, in seconds; None: there is none, or it is another process's."""
    asked, whose = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not asked.isdecimal() or int(asked) == 0 or (whose and whose != str(os.getpid())):
        return None
    return int(asked) / 1e6


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child, who is not to speak for us."""
    return {name: value for name, value in environment.items() if name not in VARIABLES}
