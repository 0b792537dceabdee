"""The embedded MQTT broker: the one door to amqtt. It runs in a thread of its own with an event loop of its own.

What amqtt 0.12 does not do, and what we do about it: it speaks MQTT 3.1.1 only (so do we); it drops what waits for
anonymous clients that are away (devices and the hub send again until a receipt); it may deliver retained messages
that nobody subscribed to (both sides ignore unknown topics); it keeps nothing over a restart (the hub says its tip
and its release again after every connect). It has neither TLS nor an access list here: the hub says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import warnings
from typing import Any

from console.errors import TransportError

START_TIMEOUT_S = 15.0
ANONYMOUS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}


class EmbeddedBroker:
    """A broker on HOST:PORT; port 0 takes a free one.

    Raises:
        TransportError: the port is in use, or the host is not one of this machine.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._ready: threading.Event = threading.Event()
        self._error: Exception | None = None
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT_S) or self._error is not None:
            raise TransportError(
                f"expected to listen on {host}:{port}, could not ({_reason(self._error)}); stop what uses the port, or "
                f"choose another one with --port"
            )

    @property
    def url(self) -> str:
        """The address for clients on this machine."""
        return f"mqtt://{self.host}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop listening and end the thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)

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
        broker = await self._started()
        # amqtt does not say which port it got
        server: Any = broker._servers["default"].instance  # noqa: SLF001
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        with contextlib.suppress(Exception):  # it complains of clients that vanish while it stops
            await asyncio.wait_for(broker.shutdown(), timeout=5)

    async def _started(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations among its plugins are not ours
            from amqtt.broker import Broker

            listener = {"type": "tcp", "bind": f"{self.host}:{self.port}"}
            broker = Broker({"listeners": {"default": listener}, "plugins": ANONYMOUS})
            await broker.start()
        return broker


def _silence() -> None:
    """Its log tells of every packet; what matters to people the hub says itself."""
    for name in ("amqtt", "transitions", "asyncio", "websockets"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False


def _reason(error: BaseException | None) -> str:
    while error is not None and not isinstance(error, OSError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno else str(error)
    return str(error) if error is not None else "it did not start in time"
