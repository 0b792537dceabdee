"""The honest fake: a network in memory that loses, repeats, reorders and corrupts, and keeps sessions as a broker does.

Nothing moves until `pump` is called, so a test decides when. One seed gives one history.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from wire.transport import Capabilities, OnConnection, OnMessage, Will


@dataclass
class Network:
    """A broker and its links. Probabilities apply to each delivery of a message that is not retained."""

    seed: int = 0
    lose: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    endpoints: dict[str, MemoryTransport] = field(default_factory=dict)
    retained: dict[str, bytes] = field(default_factory=dict)
    history: list[tuple[str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311  # a repeatable history, not a secret

    def route(self, topic: str, payload: bytes, retain: bool) -> None:
        """Queue a message at every subscriber, connected or not."""
        self.history.append((topic, payload))
        if retain:
            self.retained[topic] = payload
        for endpoint in self.endpoints.values():
            if any(matches(p, topic) for p in endpoint.patterns) and self._random.random() >= self.lose:
                copies = 2 if self._random.random() < self.repeat else 1
                endpoint.queue.extend((topic, self._changed(payload)) for _ in range(copies))

    def _changed(self, payload: bytes) -> bytes:
        """What arrives of a payload: now and then a byte of it is another one."""
        if not self.corrupt or not payload or self._random.random() >= self.corrupt:
            return payload
        at = self._random.randrange(len(payload))
        return payload[:at] + bytes([payload[at] ^ self._random.randrange(1, 256)]) + payload[at + 1 :]

    def pump(self, limit: int = 100_000) -> int:
        """Deliver until nothing waits at a connected endpoint; returns how many deliveries were made."""
        done = 0
        while done < limit:
            ready = [e for e in self.endpoints.values() if e.connected and e.queue]
            if not ready:
                break
            endpoint = self._random.choice(ready)
            shuffled = self._random.random() < self.reorder
            at = self._random.randrange(len(endpoint.queue)) if shuffled else 0
            endpoint.deliver(*endpoint.queue.pop(at))
            done += 1
        return done


class MemoryTransport:
    """One client of a `Network`. `drop` cuts the connection; what is published meanwhile waits."""

    capabilities = Capabilities()

    def __init__(self, network: Network, name: str, will: Will | None = None) -> None:
        self.network, self.name, self.will = network, name, will
        self.patterns: list[str] = []
        self.queue: list[tuple[str, bytes]] = []
        self.connected = False
        self.errors: list[Exception] = []
        self._on_message: OnMessage = lambda topic, payload: None
        self._on_connection: OnConnection = lambda up: None

    def start(self, on_message: OnMessage, on_connection: OnConnection) -> None:
        """Join the network under this name; an earlier session of the name is taken over with what waits in it."""
        before = self.network.endpoints.get(self.name)
        if before is not None and before is not self:
            self.patterns = list(dict.fromkeys([*before.patterns, *self.patterns]))
            self.queue = [*before.queue, *self.queue]
        self.network.endpoints[self.name] = self
        self._on_message, self._on_connection = on_message, on_connection
        self.restore()

    def subscribe(self, pattern: str) -> None:
        """Receive a pattern, beginning with what is retained there."""
        if pattern not in self.patterns:
            self.patterns.append(pattern)
        self.queue.extend((t, p) for t, p in self.network.retained.items() if matches(pattern, t))

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Send, unless the connection is cut."""
        if self.connected:
            self.network.route(topic, payload, retain)
        return self.connected

    def deliver(self, topic: str, payload: bytes) -> None:
        """Call the handler; its exceptions are kept in `errors` and end nothing."""
        try:
            self._on_message(topic, payload)
        except Exception as error:  # noqa: BLE001  # the contract: no handler ends the transport
            self.errors.append(error)

    def drop(self) -> None:
        """Lose the connection without goodbye: the will is published."""
        self.connected = False
        self._on_connection(False)
        if self.will is not None:
            self.network.route(self.will.topic, self.will.payload, retain=False)

    def restore(self) -> None:
        """Have the connection back."""
        self.connected = True
        self._on_connection(True)

    def close(self) -> None:
        """Leave; the session stays, as a broker keeps it."""
        self.connected = False


def matches(pattern: str, topic: str) -> bool:
    """MQTT topic filters with `+` and `#` (MQTT 3.1.1, section 4.7).

    >>> matches("a/+/c", "a/b/c"), matches("a/#", "a/b/c"), matches("a/+", "a/b/c")
    (True, True, False)
    """
    return _match(iter(pattern.split("/")), iter(topic.split("/")))


def _match(pattern: Iterator[str], topic: Iterator[str]) -> bool:
    for level in pattern:
        if level == "#":
            return True
        found = next(topic, None)
        if found is None or level not in ("+", found):
            return False
    return next(topic, None) is None
