"""The embedded MQTT broker: the one door to amqtt. It runs in a thread of its own with an event loop of its own.

What amqtt 0.12 does not do, and what we do about it: it speaks MQTT 3.1.1 only, and says nothing to a client that asks
for 5 and tells properties (so the door refuses that client, which then asks for 3.1.1); it drops what waits for
anonymous clients that are away (devices and the hub send again until a receipt); it may deliver retained messages
that nobody subscribed to (both sides ignore unknown topics); it keeps nothing over a restart (the hub says its tip
and its release again after every connect). It has neither TLS nor an access list here: the hub says so.

There are two doors: the inner one, on this machine only, is the hub's; the outer one lets devices in once the hub
listens, or a device that is quicker than the hub would say hello to nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import warnings
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, cast

from console.errors import TransportError
from hub.brokers.rules import MAX_PACKET_BYTES

START_TIMEOUT_S = 15.0
FIRST_TIMEOUT_S = 10.0
BACKLOG = 128
LEVEL, REFUSED = 4, bytes([0x20, 2, 0, 1])  # MQTT 3.1.1; CONNACK: unacceptable protocol version
ANONYMOUS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}


class EmbeddedBroker:
    """A broker whose outer door is HOST:PORT; port 0 takes a free one. `open` lets devices in.

    Raises:
        TransportError: the port is in use, or the host is not one of this machine.
    """

    def __init__(self, host: str, port: int) -> None:
        self._outer = _listen(host, port)
        self.host, self.port, self.inner_port = host, int(self._outer.getsockname()[1]), 0
        self._ready = threading.Event()
        self._error: Exception | None = None
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._broker: Any = None
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT_S) or self._error is not None:
            raise TransportError(f"expected the embedded broker to start, it did not ({self._error!r}); start it again")

    @property
    def is_running(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def open(self, subscriptions: int = 1) -> None:
        """Let devices in, as soon as there are so many subscriptions; connections wait at the door until then.

        Raises:
            TransportError: there are not, within some seconds.
        """
        try:
            asyncio.run_coroutine_threadsafe(self._open(subscriptions), self._loop).result(START_TIMEOUT_S)
        except (TimeoutError, FutureTimeoutError) as error:  # two classes before Python 3.11
            raise TransportError("expected the hub to reach its own broker, it did not; start it again") from error

    def close(self) -> None:
        """Stop listening and end the thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)
        self._outer.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:  # noqa: BLE001  # the thread that made us raises it
            self._error = error
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        _silence()
        self._broker = _make()
        await self._broker.start()
        inner = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.inner_port = inner.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        for server in (inner, self._server):
            if server is not None:
                server.close()
        with contextlib.suppress(Exception):  # it complains of clients that vanish while it stops
            await asyncio.wait_for(self._broker.shutdown(), timeout=5)

    async def _open(self, subscriptions: int) -> None:
        for _ in range(int(START_TIMEOUT_S * 40)):
            if len(self._broker.subscriptions) >= subscriptions:
                self._server = await asyncio.start_server(self._take, sock=self._outer)
                return
            await asyncio.sleep(0.02)
        raise TimeoutError

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter

        seen = _Seen(reader)
        level = await seen.level()
        if level > LEVEL:
            writer.write(REFUSED)
        if level != LEVEL:
            writer.close()
            return
        await self._broker.external_connected(
            StreamReaderAdapter(cast(asyncio.StreamReader, seen)), StreamWriterAdapter(writer), "default"
        )


class _Seen:
    """A reader of which the beginning was read already: the protocol level of CONNECT (MQTT 3.1.1, section 3.1)."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader, self._first = reader, b""

    async def level(self) -> int:
        """The protocol level; 0 if this is no CONNECT, or none comes."""
        try:
            return await asyncio.wait_for(self._level(), FIRST_TIMEOUT_S)
        except (TimeoutError, asyncio.TimeoutError, asyncio.IncompleteReadError, OSError):  # two before Python 3.11
            return 0

    async def _level(self) -> int:
        self._first = await self._reader.readexactly(2)
        while self._first[-1] & 0x80 and len(self._first) < 5:  # the packet's length has one to four bytes
            self._first += await self._reader.readexactly(1)
        name = await self._reader.readexactly(7)
        self._first += name
        return name[6] if name[:6] == b"\0\x04MQTT" else 0

    async def readexactly(self, n: int) -> bytes:
        """The next bytes; of a packet that is too large none: amqtt would make room for 256 MB."""
        if n > MAX_PACKET_BYTES:
            raise ValueError(f"a packet of {n} bytes")  # which ends the connection; an end of data would go on reading
        ahead, self._first = self._first[:n], self._first[n:]
        return ahead + await self._reader.readexactly(n - len(ahead)) if len(ahead) < n else ahead

    async def read(self, n: int = -1) -> bytes:
        """Some bytes."""
        ahead, self._first = self._first, b""
        return ahead or await self._reader.read(n)

    def feed_eof(self) -> None:
        """Nothing more comes."""
        self._reader.feed_eof()


def _listen(host: str, port: int) -> socket.socket:
    """Take the port; nothing is accepted yet."""
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        return socket.create_server((bare, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise TransportError(
            f"expected to listen on {host}:{port}, could not ({reason}); stop what uses the port, or choose another "
            f"one with --port"
        ) from error


def _make() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations among its plugins are not ours
        from amqtt.broker import Broker

        # an external listener: connections are accepted here, which is also how port 0 becomes known
        return Broker({"listeners": {"default": {"type": "external"}}, "plugins": ANONYMOUS})


def _silence() -> None:
    """Its log tells of every packet; what matters to people the hub says itself."""
    for name in ("amqtt", "transitions", "asyncio", "websockets"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
