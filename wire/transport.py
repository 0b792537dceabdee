"""What the hub and the agents need of a transport, and what each transport can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

OnMessage = Callable[[str, bytes], None]
OnConnection = Callable[[bool], None]


@dataclass(frozen=True)
class Capabilities:
    """What a transport can do beyond MQTT 3.1.1 with QoS 1."""

    shared_subscriptions: bool = False
    message_expiry: bool = False
    denied_publish_seen: bool = False


@dataclass(frozen=True)
class Will:
    """What the broker publishes when the connection is lost."""

    topic: str
    payload: bytes


class Transport(Protocol):
    """Publish and subscribe with delivery at least once, in any order, to names that survive a reconnect.

    Handlers run on the transport's own thread, one at a time, and must not block. An exception in a handler is
    reported and never ends the transport.
    """

    capabilities: Capabilities

    def start(self, on_message: OnMessage, on_connection: OnConnection) -> None:
        """Connect, and keep connecting until `close`."""

    def subscribe(self, pattern: str) -> None:
        """Receive what is published below a pattern, with QoS 1, also after a reconnect."""

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Hand a message over; False if it was certainly not sent. True means nothing: only a receipt does."""

    def close(self) -> None:
        """Disconnect and stop."""
