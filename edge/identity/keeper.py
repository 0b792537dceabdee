"""Keeps a device's certificate young, on a thread of its own beside the core; the work itself is a child's."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.errors import EdgequiltError, TransportError
from edge.identity.ask_child import ask_child
from edge.identity.due import LOOK_S, Said, due_at, present
from edge.identity.record import read_identity
from wire.backoff import full_jitter

log = logging.getLogger("edgequilt.agent")
FIRST_S, LAST_S = 5.0, 3600.0
SOON_S = 60.0
REFUSED_S = 6 * 3600.0  # a device that is revoked need not ask often


def since_boot() -> float:
    """Seconds on a clock that nobody sets, and that goes on while the board sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Keeper:
    """Renews when it is due, for as long as the program runs.

    Args:
        folder: of the identity; without one in it there is nothing to do.
        ask: does it, by name, and raises what went wrong.
        wall, steady: clocks, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        ask: Callable[..., dict[str, Any]] = ask_child,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = since_boot,
    ) -> None:
        self.folder, self._ask, self._wall, self._steady = folder, ask, wall, steady
        self._draw = random.random()  # noqa: S311  # not a secret
        self._said: Said | None = None
        self._attempt, self._is_first = 0, True
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin, if there is an identity to keep."""
        if read_identity(self.folder) is not None:
            threading.Thread(target=self._run, name="identity", daemon=True).start()

    def close(self) -> None:
        """End soon; a child that is at work is not waited for."""
        self._stop.set()

    def turn(self) -> float:
        """Do what is due; returns the seconds until something may be."""
        try:
            wait_s = self._turn()
            self._attempt = 0
        except TransportError as error:
            self._attempt += 1
            wait_s = full_jitter(self._attempt, FIRST_S, LAST_S)
            log.info("the certificate was not renewed yet: %s", error)
        except EdgequiltError as error:
            wait_s = full_jitter(0, REFUSED_S, REFUSED_S)
            log.warning("the certificate was not renewed: %s", error)
        return wait_s

    def _turn(self) -> float:
        identity = read_identity(self.folder)
        if identity is None:
            return LOOK_S
        now = present(identity, self._wall(), self._steady(), self._said)
        if now is None or (self._said is None and not self._is_first):
            now = self._time(now)
        left_s = due_at(identity, self._draw) - now
        if left_s > 0:
            # a clock may be months behind without looking it, so the hub is asked too, once, but not in the first
            # second after a power cut by all boards together
            soon_s = self._draw * SOON_S if self._is_first and self._said is None else LOOK_S
            self._is_first = False
            return min(soon_s, left_s)
        self._ask("renew", str(self.folder))
        renewed = read_identity(self.folder) or identity
        self._said = Said(renewed.at_s, self._steady())
        left_s = due_at(renewed, self._draw) - renewed.at_s
        if renewed.at_s == identity.at_s or left_s <= 0:
            raise TransportError("expected a certificate that lasts, found one that is to be renewed again at once")
        log.info("the certificate of %s is renewed", identity.name)
        return min(LOOK_S, left_s)

    def _time(self, otherwise: float | None) -> float:
        """The hub's time, or else what is known without it."""
        try:
            self._said = Said(float(self._ask("time", str(self.folder))["at_s"]), self._steady())
        except EdgequiltError:
            if otherwise is None:
                raise
            return otherwise
        return self._said.at_s

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                wait_s = self.turn()
            except Exception:
                log.exception("the identity could not be looked after")
                wait_s = LOOK_S
            self._stop.wait(wait_s)
