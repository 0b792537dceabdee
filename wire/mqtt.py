"""MQTT 3.1.1 over paho-mqtt: the one door to paho.

What paho 2.2 does not do for us, each of it measured: it reconnects without jitter (fleets come back in
lock-step), an exception in a callback kills its network thread while it still reports a connection, and a
publish while offline is both refused and delivered later. So this transport runs its own loop, wraps every
handler, and hands nothing to paho while the connection is down, nor leaves it anything to repeat: the outbox is the
caller's.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from console.errors import TransportError
from wire.backoff import full_jitter
from wire.tls import client_context, look_again
from wire.transport import Capabilities, OnConnection, OnMessage, Will


@contextlib.contextmanager
def _without(name: str) -> Iterator[None]:
    """Have an import find an empty module of that name, unless it is loaded already."""
    absent = name not in sys.modules
    if absent:
        sys.modules[name] = ModuleType(name)
    yield
    if absent:
        del sys.modules[name]


# paho asks urllib.request for proxies, and only when PySocks is there; with it come the standard library's HTTP and
# mail: 1.2 MiB, in every agent, of the 35 that its core may have
with _without("urllib.request"):
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
if getattr(paho, "socks", None) is not None:
    import urllib.request  # noqa: F401  # paho reaches it through its own name

log = logging.getLogger("edgequilt.mqtt")
KEEPALIVE_S = 30
BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.2, 60.0
IN_FLIGHT = 100


@dataclass(frozen=True)
class Broker:
    """Where a broker listens: `mqtt://host:port` or `mqtts://host:port` with the files of a mutual TLS."""

    host: str
    port: int
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def parse_broker(url: str) -> Broker:
    """Read a broker's address.

    >>> parse_broker("mqtt://127.0.0.1:1883")
    mqtt://127.0.0.1:1883

    Raises:
        TransportError: it is not one.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError(url)
        return Broker(
            parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883), parts.scheme == "mqtts"
        )
    except ValueError as error:
        raise TransportError(f"expected a broker like mqtt://host:1883 or mqtts://host:8883, found {url!r}") from error


class MqttTransport:
    """A client with a stable name, a session that survives, full-jitter reconnects and a supervised loop."""

    capabilities = Capabilities()

    def __init__(self, broker: Broker, client_id: str, will: Will | None = None) -> None:
        self.broker = broker
        self._patterns: list[str] = []
        self._connected = threading.Event()
        self._stop = threading.Event()
        self._tls: ssl.SSLContext | None = None
        self._thread: threading.Thread | None = None
        self._on_message: OnMessage = lambda topic, payload: None
        self._on_connection: OnConnection = lambda up: None
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False, protocol=paho.MQTTv311
        )
        self._client.max_inflight_messages_set(IN_FLIGHT)
        if will is not None:
            self._client.will_set(will.topic, will.payload, qos=1)
        if broker.tls:
            self._tls = _tls(broker)
            self._client.tls_set_context(self._tls)
        if broker.username is not None:
            self._client.username_pw_set(broker.username, broker.password)
        self._client.on_connect = self._connect
        self._client.on_disconnect = self._disconnect
        self._client.on_message = self._message
        # With no thread of its own, paho would write to the socket from whichever thread publishes, and two
        # writers interleave their bytes; this callback makes publishers only wake the loop.
        self._client.on_socket_register_write = lambda client, data, sock: None
        self._client.on_socket_open = lambda client, data, sock: _at_once(sock)

    def start(self, on_message: OnMessage, on_connection: OnConnection) -> None:
        """Start the network thread; it connects, and reconnects until `close`."""
        self._on_message, self._on_connection = on_message, on_connection
        self._thread = threading.Thread(target=self._supervise, name=f"mqtt-{self.broker.port}", daemon=True)
        self._thread.start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Whether a connection stands within the time."""
        return self._connected.wait(timeout_s)

    def subscribe(self, pattern: str) -> None:
        """Subscribe now, and again after every reconnect."""
        if pattern not in self._patterns:
            self._patterns.append(pattern)
        if self._connected.is_set():
            self._client.subscribe(pattern, qos=1)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Hand a message to the broker; False while there is no connection."""
        if not self._connected.is_set():
            return False
        return self._client.publish(topic, payload, qos=qos, retain=retain).rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def close(self) -> None:
        """Say goodbye and stop the thread."""
        self._stop.set()
        self._client.disconnect()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def _supervise(self) -> None:
        attempt = 0
        while not self._stop.is_set():
            # What the last connection did not see through is the caller's to say again: a broker that ends the
            # connection over a message that it denies would be sent that message for ever, and nothing after it.
            self._client.drop_out_messages()
            try:
                self._look_again()
                self._client.connect(self.broker.host, self.broker.port, keepalive=KEEPALIVE_S)
                while not self._stop.is_set() and self._client.loop(timeout=0.5) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                    attempt = 0 if self._connected.is_set() else attempt
            except Exception as error:  # noqa: BLE001  # whatever it was, a transport must come back
                log.info("no connection to %r: %s", self.broker, error)
            self._down()
            attempt += 1
            self._stop.wait(full_jitter(attempt, BACKOFF_FIRST_S, BACKOFF_LAST_S))
        self._drain()

    def _look_again(self) -> None:
        """Use a certificate that was renewed since the last connection."""
        if self._tls is None:
            return
        try:
            look_again(self._tls, self.broker.ca, *_files(self.broker))
        except OSError as error:
            log.warning("the certificates for %r cannot be read, the former ones are used: %s", self.broker, error)

    def _drain(self) -> None:
        deadline = time.monotonic() + 1
        with contextlib.suppress(Exception):
            while self._client.want_write() and time.monotonic() < deadline:
                self._client.loop(timeout=0.05)

    def _connect(
        self, client: paho.Client, data: object, flags: object, reason: object, properties: object = None
    ) -> None:
        if getattr(reason, "is_failure", False):
            log.warning("broker %r refused the connection: %s", self.broker, reason)
            return
        for pattern in self._patterns:
            client.subscribe(pattern, qos=1)
        self._connected.set()
        self._guard(self._on_connection, True)

    def _disconnect(self, *_: object) -> None:
        self._down()

    def _down(self) -> None:
        if self._connected.is_set():
            self._connected.clear()
            self._guard(self._on_connection, False)

    def _message(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        self._guard(self._on_message, message.topic, message.payload)

    def _guard(self, handler: object, *arguments: object) -> None:
        try:
            handler(*arguments)  # type: ignore[operator]  # the handlers of `start`
        except Exception:
            log.exception("a handler failed; the connection goes on")


def _at_once(sock: Any) -> None:
    """Have small messages leave at once: else each waits up to 40 ms for the answer to the one before (RFC 896)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _files(broker: Broker) -> tuple[Path | None, Path | None]:
    """Our own certificate and its key, where there are both."""
    return (broker.certificate, broker.key) if broker.certificate and broker.key else (None, None)


def _tls(broker: Broker) -> ssl.SSLContext:
    try:
        return client_context(broker.ca, *_files(broker))
    except (OSError, ssl.SSLError) as error:
        raise TransportError(
            f"expected certificate files for {broker!r}, found none that can be used ({error}); check "
            f"ca, certificate and key"
        ) from error
