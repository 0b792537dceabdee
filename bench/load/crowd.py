"""Many MQTT clients on one thread: what load is made of. Straight on paho, which the product enters by wire/mqtt.py.

A thread per client, as a board has it, would measure Python's lock at 200 clients.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from wire.broker import Broker
from wire.mqtt import IN_FLIGHT, KEEPALIVE_S
from wire.transport import Capabilities, OnConnection, OnFate, OnMessage, ignore

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
MISC_EVERY_S = 2.0


class Crowd:
    """The clients; `turn` lets them read and write."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.members: list[Member] = []
        self._misc_at = 0.0

    def member(self, broker: Broker, name: str) -> Member:
        """One more client."""
        made = Member(self, broker, name)
        self.members.append(made)
        return made

    def turn(self, timeout_s: float = 0.05) -> None:
        """Let them read what has come and write what waits."""
        for key, mask in self.selector.select(timeout_s):
            key.data.turn(mask)
        if time.monotonic() >= self._misc_at:
            self._misc_at = time.monotonic() + MISC_EVERY_S
            for member in self.members:
                member.client.loop_misc()

    def until(self, true: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Turn until something holds.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected {what} within {timeout_s:.0f} s")
            self.turn()

    def close(self) -> None:
        """Say goodbye."""
        for member in self.members:
            member.close()
        self.turn(0.0)
        self.selector.close()


class Member:
    """One client, as the rest of the project sees a transport."""

    capabilities = Capabilities()

    def __init__(self, crowd: Crowd, broker: Broker, name: str) -> None:
        self.crowd, self.broker, self.patterns = crowd, broker, list[str]()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv311)
        self.client.max_inflight_messages_set(IN_FLIGHT)
        if broker.tls:
            self.client.tls_set_context(context(broker))
        self.client.on_socket_register_write = lambda c, d, sock: self._listen(sock, READ | WRITE)
        self.client.on_socket_unregister_write = lambda c, d, sock: self._listen(sock, READ)
        self.subscribed = False

    def subscribe(self, pattern: str) -> None:
        """Subscribe as soon as the connection stands."""
        self.patterns.append(pattern)

    def unsubscribe(self, pattern: str) -> None:
        """No board does."""
        raise NotImplementedError(pattern)

    def lives(self) -> bool:
        """It has no thread of its own."""
        return True

    def start(self, on_message: OnMessage, on_connection: OnConnection, on_fate: OnFate = ignore) -> None:
        """Connect."""
        left = len(self.patterns)

        def connected(client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any = None) -> None:
            if reason.is_failure:
                raise ConnectionError(f"expected {self.broker!r} to let a client in, it says: {reason}")
            for pattern in self.patterns:
                client.subscribe(pattern, qos=1)

        def granted(*_: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                self.subscribed = True
                on_connection(True)

        self.client.on_connect, self.client.on_subscribe = connected, granted
        self.client.on_message = lambda client, data, message: on_message(message.topic, bytes(message.payload))
        self.client.connect(self.broker.host, self.broker.port, keepalive=KEEPALIVE_S)
        sock = self.client.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # type: ignore[union-attr]  # it has just connected
        self._listen(sock, READ | WRITE)

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> bool:
        """Hand a message over."""
        return bool(self.client.publish(topic, payload, qos=qos, retain=retain).rc == 0)

    def turn(self, mask: int) -> None:
        """Read and write what can be."""
        sock: Any = self.client.socket()
        if mask & READ:
            self.client.loop_read()
            while self.broker.tls and self.client.socket() is not None and sock.pending():
                self.client.loop_read()
        if mask & WRITE and self.client.socket() is not None:
            self.client.loop_write()
        if self.client.socket() is None and sock is not None:
            raise ConnectionError(f"expected {self.broker!r} to keep its clients, it ended a connection")

    def close(self) -> None:
        """Leave."""
        sock = self.client.socket()
        if sock is not None:
            self.crowd.selector.unregister(sock)
        self.client.on_socket_register_write = None
        self.client.on_socket_unregister_write = None
        self.client.disconnect()

    def _listen(self, sock: Any, events: int) -> None:
        try:
            self.crowd.selector.modify(sock, events, self)
        except KeyError:
            self.crowd.selector.register(sock, events, self)


def context(broker: Broker) -> ssl.SSLContext:
    """TLS as wire/mqtt.py has it."""
    made = ssl.create_default_context(cafile=None if broker.ca is None else str(broker.ca))
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if broker.certificate is not None and broker.key is not None:
        made.load_cert_chain(str(broker.certificate), str(broker.key))
    return made


def through(broker: Broker, port: int) -> Broker:
    """The same broker by another port, behind which it is."""
    return replace(broker, port=port)
