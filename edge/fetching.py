"""Fetches a bundle on a thread of its own, for as long as it takes: neither hours offline nor restarts cost anything.

The thread touches no state of the core but the folder of the new bundle; what it has to say, it tells.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from console.errors import BadData, EdgequiltError, SignatureError, TransportError
from edge.config import Config
from edge.install import Goal, Source, Stopped, install
from edge.setup import broker_of
from wire.backoff import full_jitter
from wire.messages import Assignment, Program

log = logging.getLogger("edgequilt.agent")
FIRST_S, LAST_S = 1.0, 300.0
TOLD_EVERY_S = 1.0
FINAL = (SignatureError, BadData)  # what another attempt would not mend
Tell = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Hub:
    """Where a hub serves bundles, as a `Source`: the first of its addresses that answers.

    Attributes:
        addresses: HOST:PORT.
        ca, certificate, key: whom to believe, and what to show; read anew for each request, since they are renewed.
    """

    addresses: Sequence[str]
    ca: Path | None
    certificate: Path | None
    key: Path | None

    def bytes(self, path: str, limit_bytes: int) -> bytes:
        """A small file."""
        from wire.https import get_bytes

        found: bytes = self._asked(lambda server: get_bytes(server, path, limit_bytes))
        return found

    def range(self, path: str, file: BinaryIO, offset: int, size: int) -> int:
        """What lacks of a large one."""
        from wire.https import get_range

        return int(
            self._asked(lambda server: get_range(server, path, file, offset, size), lambda: file.tell() == offset)
        )

    def _asked(self, ask: Callable[[Any], Any], again: Callable[[], bool] = lambda: True) -> Any:
        from wire.https import Server, parse_address  # only an agent that fetches pays for HTTP

        if self.ca is None:
            raise BadData("expected broker.ca, certificate and key in agent.toml, found none; bundles come over TLS")
        failed = TransportError("expected an address of the hub, found none")
        for address in self.addresses:
            server = Server(*parse_address(address), self.ca, self.certificate, self.key)
            try:
                return ask(server)
            except TransportError as error:  # few, and each takes a connection
                failed = error
                if not again():  # bytes came: another address must not begin where this one did
                    break
        raise failed


def hub_of(config: Config, order: Assignment | Program) -> Hub:
    """Where the hub serves bundles and releases: what its message says; no host means the broker's."""
    broker = broker_of(config)
    host = f"[{broker.host}]" if ":" in broker.host else broker.host
    addresses = [f"{host}{at}" if at.startswith(":") else at for at in order.where]
    return Hub(tuple(dict.fromkeys(addresses)), broker.ca, broker.certificate, broker.key)


class Fetcher:
    """One bundle on its way; `tell` gets `fetched`, `progress`, `delayed` or `impossible`, and what belongs to it."""

    def __init__(self, goal: Goal, source: Source, tell: Tell) -> None:
        self._goal = replace(goal, go_on=self._go_on, looked=self._looked)
        self._source, self._tell = source, tell
        self._stop = threading.Event()
        self._told_at, self._done = -1e9, -1
        self._lived_at, self._waits = time.monotonic(), False
        self._thread = threading.Thread(target=self._run, name="bundle", daemon=True)
        self._thread.start()

    @property
    def sequence(self) -> int:
        """Of the assignment that is being followed."""
        return self._goal.order.sequence

    def silent_s(self) -> float:
        """Seconds since it last did something, or waited on purpose."""
        return 0.0 if self._waits or not self._thread.is_alive() else time.monotonic() - self._lived_at

    def close(self) -> None:
        """End at the next block; it is not waited for longer than a moment."""
        self._stop.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        attempt, reason = 0, ""
        while not self._stop.is_set():
            before, wait_s = self._done, 0.0
            try:
                install(self._goal, self._source)
                self._say("fetched")
                return
            except Stopped:
                return
            except FINAL as error:
                self._say("impossible", reason=str(error))
                return
            except EdgequiltError as error:
                wait_s = float(getattr(error, "after_s", 0.0))
                if str(error) != reason and not isinstance(error, TransportError):
                    self._say("delayed", reason=str(error))
                reason = str(error)
                log.info("the bundle is not here yet: %s", error)
            except Exception as error:
                log.exception("fetching the bundle failed")
                self._say("impossible", reason=f"{type(error).__name__}: {error}")
                return
            attempt = 0 if self._done > before >= 0 else attempt + 1
            self._waits = True
            self._stop.wait(max(wait_s, full_jitter(attempt, FIRST_S, LAST_S)))
            self._lived_at, self._waits = time.monotonic(), False

    def _looked(self, size: int) -> None:
        if self._stop.is_set():
            raise Stopped
        self._lived_at = time.monotonic()

    def _go_on(self, done: int, of: int) -> None:
        self._looked(done)
        self._done = done
        if time.monotonic() - self._told_at >= TOLD_EVERY_S:
            self._told_at = time.monotonic()
            self._say("progress", done=done, of=of)

    def _say(self, what: str, **fields: Any) -> None:
        if not self._stop.is_set():
            self._tell(what, {"sequence": self.sequence, **fields})
