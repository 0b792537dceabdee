"""The honest fake: a network in memory that loses, repeats, reorders and corrupts, and keeps sessions as a broker does.

Nothing moves until `pump` is called, so a test decides when. One seed gives one history.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from wire.transport import Capabilities, Fate, OnConnection, OnFate, OnMessage, Will, ignore

SHARED = "$share"


class Waiting(NamedTuple):
    """A message that waits for a client."""

    topic: str
    payload: bytes
    until_s: float = float("inf")


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
    may_write: Callable[[str, str], bool] = lambda name, topic: True
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311  # a repeatable history, not a secret

    def route(self, topic: str, payload: bytes, retain: bool, expiry_s: float | None = None) -> bool:
        """Queue a message at every subscriber, connected or not; of those that share a subscription at one.

        Returns:
            Whether there is any.
        """
        self.history.append((topic, payload))
        if retain:
            self.retained[topic] = payload
        hearers = self._hearers(topic)
        until_s = float("inf") if expiry_s is None else self.now_s + expiry_s
        for endpoint in hearers:
            if self._random.random() >= self.lose:
                copies = 2 if self._random.random() < self.repeat else 1
                endpoint.queue.extend(Waiting(topic, self._changed(payload), until_s) for _ in range(copies))
        return bool(hearers)

    def _hearers(self, topic: str) -> list[MemoryTransport]:
        found, groups = list[MemoryTransport](), dict[str, list[MemoryTransport]]()
        for endpoint in self.endpoints.values():
            if any(matches(p, topic) for p in endpoint.patterns):
                found.append(endpoint)
            for pattern in endpoint.patterns:
                word, _, rest = pattern.partition("/")
                if word == SHARED and endpoint.connected and matches(rest.partition("/")[2], topic):
                    groups.setdefault(pattern, []).append(endpoint)
        return found + [self._random.choice(group) for group in groups.values()]

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
            waiting = endpoint.queue.pop(at)
            if waiting.until_s > self.now_s:
                endpoint.deliver(waiting.topic, waiting.payload)
            done += 1
        return done


class MemoryTransport:
    """One client of a `Network`. `drop` cuts the connection; what is published meanwhile waits."""

    capabilities = Capabilities("memory", True, True, True)

    def __init__(self, network: Network, name: str, will: Will | None = None) -> None:
        self.network, self.name, self.will = network, name, will
        self.patterns: list[str] = []
        self.queue: list[Waiting] = []
        self.connected = False
        self.errors: list[Exception] = []
        self._on_message: OnMessage = lambda topic, payload: None
        self._on_connection: OnConnection = lambda up: None
        self._on_fate: OnFate = ignore

    def start(self, on_message: OnMessage, on_connection: OnConnection, on_fate: OnFate = ignore) -> None:
        """Join the network under this name; an earlier session of the name is taken over with what waits in it."""
        before = self.network.endpoints.get(self.name)
        if before is not None and before is not self:
            self.patterns = list(dict.fromkeys([*before.patterns, *self.patterns]))
            self.queue = [*before.queue, *self.queue]
        self.network.endpoints[self.name] = self
        self._on_message, self._on_connection, self._on_fate = on_message, on_connection, on_fate
        self.restore()

    def subscribe(self, pattern: str) -> None:
        """Receive a pattern, beginning with what is retained there."""
        if pattern not in self.patterns:
            self.patterns.append(pattern)
        self.queue.extend(Waiting(t, p) for t, p in self.network.retained.items() if matches(pattern, t))

    def unsubscribe(self, pattern: str) -> None:
        """Receive it no longer."""
        if pattern in self.patterns:
            self.patterns.remove(pattern)

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> bool:
        """Send, unless the connection is cut."""
        if not self.connected:
            return False
        if not self.network.may_write(self.name, topic):
            self._guard(self._on_fate, Fate(topic, "denied", "Not authorized"))
            return True
        heard = self.network.route(topic, payload, retain, expiry_s)
        self._guard(self._on_fate, Fate(topic, "taken" if heard else "unheard"))
        return True

    def deliver(self, topic: str, payload: bytes) -> None:
        """Call the handler; its exceptions are kept in `errors` and end nothing."""
        self._guard(self._on_message, topic, payload)

    def drop(self) -> None:
        """Lose the connection without goodbye: the will is published."""
        self.connected = False
        self._guard(self._on_connection, False)
        if self.will is not None:
            self.network.route(self.will.topic, self.will.payload, retain=False)

    def restore(self) -> None:
        """Have the connection back."""
        self.connected = True
        self._guard(self._on_connection, True)

    def lives(self) -> bool:
        """It has no thread that could end."""
        return True

    def close(self) -> None:
        """Leave; the session stays, as a broker keeps it."""
        self.connected = False

    def _guard(self, handler: Callable[..., None], *arguments: object) -> None:
        try:
            handler(*arguments)
        except Exception as error:  # noqa: BLE001  # the contract: no handler ends the transport
            self.errors.append(error)


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
