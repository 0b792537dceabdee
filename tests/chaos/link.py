"""A bad link: a TCP proxy that delays, loses, stalls, cuts and refuses, for whoever comes through it.

TCP hides a lost packet behind a wait: the first wait for it is at least 0.2 s (RFC 6298 as Linux does it), the next
twice as long. So a piece that is lost once here arrives that much later, and everything behind it, too.
"""

from __future__ import annotations

import heapq
import random
import selectors
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

PIECE_BYTES = 1400
FIRST_WAIT_S, MOST_WAITS = 0.2, 6


@dataclass
class Way:
    """One direction of a connection."""

    source: socket.socket
    target: socket.socket
    free_at_s: float = 0.0  # nothing overtakes


@dataclass
class Link:
    """Listens on a port of its own; one thread moves everything."""

    target: tuple[str, int]
    seed: int = 0
    delay_s: float = 0.0
    loss: float = 0.0
    stalled: bool = False  # connections stand, nothing moves
    cut: bool = False  # there is no way at all
    moved_bytes: int = 0
    port: int = 0
    _ways: dict[socket.socket, Way] = field(default_factory=dict)
    _due: list[tuple[float, int, Way, bytes]] = field(default_factory=list)
    _stop: bool = False

    def __post_init__(self) -> None:
        self._random, self._numbers, self._selector = random.Random(self.seed), count(), selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Cut everything and stop."""
        self._stop = True
        self._thread.join(10)
        self._listener.close()

    def _run(self) -> None:
        while not self._stop:
            if self.cut:
                for source in list(self._ways):
                    self._drop(source)
            for key, _ in self._selector.select(0.02):
                if key.fileobj is self._listener:
                    self._accept()
                elif not self.stalled:
                    self._read(key.fileobj)  # type: ignore[arg-type]  # all others are sockets
            if self.stalled:
                time.sleep(0.02)
            while self._due and not self.stalled and self._due[0][0] <= time.monotonic():
                self._write(*heapq.heappop(self._due)[2:])
        for source in list(self._ways):
            self._drop(source)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            if self.cut:
                raise OSError("cut")
            far = socket.create_connection(self.target, 5)
        except OSError:
            near.close()
            return
        for source, target in ((near, far), (far, near)):
            source.settimeout(5)
            self._ways[source] = Way(source, target)
            self._selector.register(source, selectors.EVENT_READ)

    def _read(self, source: socket.socket) -> None:
        way = self._ways.get(source)
        if way is None:
            return
        try:
            data = source.recv(PIECE_BYTES)
        except OSError:
            data = b""
        wait_s = self.delay_s
        for attempt in range(MOST_WAITS):
            if self._random.random() >= self.loss:
                break
            wait_s += FIRST_WAIT_S * 2**attempt
        way.free_at_s = max(way.free_at_s, time.monotonic() + wait_s)
        heapq.heappush(self._due, (way.free_at_s, next(self._numbers), way, data))
        if not data:
            self._selector.unregister(source)

    def _write(self, way: Way, data: bytes) -> None:
        if way.source not in self._ways:
            return
        self.moved_bytes += len(data)
        try:
            if not data:
                raise OSError("closed")
            way.target.sendall(data)
        except OSError:
            self._drop(way.source)

    def _drop(self, source: socket.socket) -> None:
        way = self._ways.pop(source, None)
        if way is None:
            return
        with suppress(KeyError, ValueError):
            self._selector.unregister(source)
        source.close()
        self._drop(way.target)
