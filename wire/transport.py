"""What the hub and the agents need of a transport, and what each transport can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

OnMessage = Callable[[str, bytes], None]
OnConnection = Callable[[bool], None]


@dataclass(frozen=True)
class Capabilities:
    """What a connection can do beyond MQTT 3.1.1 with QoS 1; known once it stands."""

    protocol: str = "3.1.1"
    shared_subscriptions: bool = False
    message_expiry: bool = False
    denied_publish_seen: bool = False


@dataclass(frozen=True)
class Fate:
    """What became of a message that was handed over, where the broker says it (`denied_publish_seen`).

    Attributes:
        topic: of the message; empty where the fate is the connection's own.
        outcome: taken; unheard: taken, but nobody listens there; denied: it reached nobody; replaced: the connection
            was ended, since another client came under our name.
        reason: in the broker's words.
    """

    topic: str
    outcome: Literal["taken", "unheard", "denied", "replaced"]
    reason: str = ""


OnFate = Callable[[Fate], None]


def ignore(fate: Fate) -> None:
    """For callers that do not ask what became of their messages."""


@dataclass(frozen=True)
class Will:
    """What the broker publishes when the connection is lost, and is not back within `delay_s` (MQTT 5 only)."""

    topic: str
    payload: bytes
    delay_s: int = 0


class Transport(Protocol):
    """Publish and subscribe with delivery at least once, in any order, to names that survive a reconnect.

    Handlers run on the transport's own thread, one at a time, and must not block; `on_fate` may also run on the thread
    that publishes. An exception in a handler is reported and never ends the transport.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What the connection that stands, or stood last, can do."""

    def start(self, on_message: OnMessage, on_connection: OnConnection, on_fate: OnFate = ignore) -> None:
        """Connect, and keep connecting until `close`."""

    def subscribe(self, pattern: str) -> None:
        """Receive what is published below a pattern, with QoS 1, also after a reconnect."""

    def unsubscribe(self, pattern: str) -> None:
        """Receive it no longer, nor what an earlier session of this name asked for."""

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> bool:
        """Hand a message over; False if it was certainly not sent. True means nothing: only a receipt does.

        Args:
            topic: where.
            payload: what.
            qos: of MQTT.
            retain: whether it stays for those who come later.
            expiry_s: after so many seconds it need not be delivered any more (`message_expiry`); None: never.
        """

    def lives(self) -> bool:
        """Whether its thread still does its work, connected or not; from any thread."""

    def close(self) -> None:
        """Disconnect and stop."""
