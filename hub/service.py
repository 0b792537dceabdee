"""The hub itself, without threads: messages and time in, ledger, messages out.

`handle` and `tick` are called by one thread at a time. Everything that must survive a kill is in the ledger before
anybody is told of it; partial updates are not: their devices send again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from console.errors import BadData, EdgequiltError
from hub import rounds, versions
from hub import schema as t
from hub.conductor import Conductor
from hub.ledger import Row, put_device
from hub.post import Post
from hub.registry import model, open_home
from hub.rollout import Rollout
from hub.round import Gone
from hub.updates import Updates
from wire import messages as m
from wire.envelope import Trust, unseal
from wire.keys import parse_public_key
from wire.record import plain
from wire.topics import Address, hub_subscriptions, parse_topic
from wire.transport import Transport

log = logging.getLogger("edgequilt.hub")
REASONS_KEPT = 20
ANY_MODEL = "+"
Defer = Callable[[Callable[[], None]], None]


class Service:
    """One hub on one folder.

    Raises:
        UsageError: there is no hub in the folder.
        StorageError, HubError: its ledger cannot be used.
    """

    def __init__(self, folder: Path, transport: Transport, clock: Callable[[], float] = time.time) -> None:
        self.home = open_home(folder)
        self.transport, self.clock = transport, clock
        self.post = Post(transport, self.home.key, self.home.config.fleet)
        self.conductor: Conductor | None = None
        self.rollout: Rollout | None = None
        self.updates: Updates | None = None
        self.blobs: set[str] = set()  # what devices may fetch
        self.broker, self.broker_lacks = "", list[str]()  # for people; who starts the hub knows
        self.ignored, self.reasons = 0, dict[str, str]()  # what did not hold: how often, and why last
        self._on: dict[Any, Callable[[Row, Any], None]] = {m.Hello: self._hello, m.Presence: self._presence}

    def start(self, defer: Defer = lambda call: call()) -> None:
        """Go on where the ledger stands. `defer` brings the transport's calls onto the thread that owns the hub."""
        for pattern in hub_subscriptions(self.home.config.fleet, ANY_MODEL):
            self.transport.subscribe(pattern)
        self.learn_model()
        self.transport.start(
            lambda topic, payload: defer(partial(self.handle, topic, payload)),
            lambda up: defer(partial(self.connected, up)),
        )

    def nobody_is_online(self) -> None:
        """Forget who was online: at a new broker everybody says hello again."""
        with self.home.ledger.transaction() as tx:
            tx.execute(t.devices.update().values(online=False))

    def learn_model(self) -> None:
        """Serve the model of the first bundle, as soon as there is one."""
        found = model(self.home)
        if found is None or self.conductor is not None:
            return
        self.post.model = found.id
        self.conductor = Conductor(self.home, found, self.post, self.clock)
        self.rollout = Rollout(self.conductor)
        updates = self.updates = Updates(self.home, self.post, self.conductor, self.clock)
        self._on[m.Begin] = lambda device, message: updates.begin(message)
        self._on[m.Commit] = lambda device, message: updates.commit(message)
        self._on[m.Fetch], self._on[m.Failed] = self._fetch, self._failed

    def close(self) -> None:
        """Leave the transport and close the ledger."""
        self.transport.close()
        self.home.ledger.close()

    def connected(self, up: bool) -> None:
        """The connection came or went."""
        if up and self.conductor is not None and self.rollout is not None:
            self._guard(self.conductor.greet, "after connecting")
            self._guard(self.rollout.greet, "after connecting")

    def tick(self) -> None:
        """Let time pass; call it about once a second."""
        if self.conductor is not None and self.updates is not None and self.rollout is not None:
            self._guard(self.conductor.tick, "at a tick")
            self._guard(self.rollout.tick, "at a tick")
            self.updates.tick()

    def handle(self, topic: str, payload: bytes) -> None:
        """Take a message; what does not hold is noted and changes nothing.

        Before the first bundle any model will do: devices may say hello before their hub knows what it serves.
        """
        address = parse_topic(topic)
        if address is None or address.topic.direction != "up" or address.fleet != self.home.config.fleet:
            return
        if address.model != (self.post.model or address.model):
            return
        self._guard(partial(self._take, address, payload), f"on {topic}")

    def _guard(self, call: Callable[[], None], where: str) -> None:
        try:
            call()
        except EdgequiltError as error:
            self.ignored += 1
            self.reasons.pop(where, None)
            self.reasons[where] = str(error)  # one per place: whoever floods us shall not flood the log
            if len(self.reasons) > REASONS_KEPT:
                del self.reasons[next(iter(self.reasons))]
            log.info("%s: %s", where, error)
        except Exception:
            log.exception("%s: something that should not happen", where)

    def _take(self, address: Address, payload: bytes) -> None:
        kind = address.topic.message
        if kind is m.Chunk:
            if self.updates is not None:
                self.updates.chunk(address.device, m.decode(payload, m.Chunk))
            return
        device = self.home.ledger.device(address.device)
        if device is None:
            raise BadData(f"expected an enrolled device, found {address.device}; enroll it with `edgequilt hub enroll`")
        trust = Trust([parse_public_key(device["key"], "device", "the ledger")])
        body, _ = unseal(payload, "device", trust, f"a {kind.TYPE} message of {address.device}")
        message = m.decode(body, kind)
        if message.sender.device != address.device:
            raise BadData(
                f"expected a message of {address.device}, found one of {message.sender.device}; it was ignored"
            )
        if kind not in self._on:
            return  # what needs a model, before there is one
        if not device["online"]:  # whoever speaks is there, even if its last will came late
            with self.home.ledger.transaction() as tx:
                put_device(tx, device["name"], online=True, seen_at_s=self.clock())
        self._on[kind](device, message)

    def _hello(self, device: Row, message: m.Hello) -> None:
        with self.home.ledger.transaction() as tx:
            put_device(tx, device["name"], hello=_known(message), online=True, seen_at_s=self.clock())
        if self.conductor is None or self.rollout is None:
            return
        self.rollout.greet_device(device["name"], message.serves, message.released)
        self.conductor.ask_device(device["name"])

    def _presence(self, device: Row, message: m.Presence) -> None:
        known = (device["hello"] or {}).get("sender", {}).get("boot")
        if message.state == "offline" and message.sender.boot != known:
            return  # the last will of an earlier start of the program
        with self.home.ledger.transaction() as tx:
            put_device(tx, device["name"], online=message.state == "online", seen_at_s=self.clock())

    def _fetch(self, device: Row, message: m.Fetch) -> None:
        self.post.send_blob(device["name"], self._public(message.blob), message.indexes)

    def _public(self, name: str) -> bytes:
        """The bytes of a version, or of a blob that a version names; what devices sent is nobody's business."""
        row = self.home.ledger.version(name)
        if row is not None:
            return bytes(row["body"])
        if name not in self.blobs:
            for row in self.home.ledger.versions():
                self.blobs |= versions.blob_names(versions.read_made(row).version)
        if name not in self.blobs:
            raise BadData(f"expected the name of a version or of a blob of one, found {name[:12]}; it was ignored")
        return self.home.blobs.get(name)

    def _failed(self, device: Row, message: m.Failed) -> None:
        row = self.home.ledger.job(message.job)
        if row is None or row["device"] != device["name"] or self.conductor is None:
            return
        if row["round"] in self.conductor.open:
            gate = message.job == rounds.job_id(row["round"], "gate", device["name"])
            self.conductor.tell(row["round"], Gone(device["name"], message.reason[:500], gate))


def _known(message: m.Hello) -> Row:
    """What this hub knows of a hello, as JSON takes it."""
    return cast(Row, plain(replace(message, extra={}, sender=replace(message.sender, extra={}))))
