"""The hub itself, without threads: messages and time in, ledger, messages out.

`handle` and `tick` are called by one thread at a time. Everything that must survive a kill is in the ledger before
anybody is told of it. Partial updates are files that nobody waits for: what is lost of them is asked for again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from console.errors import HubError
from hub.bundles.counter import Counter
from hub.deployments.deployment import Deployment
from hub.identity.grant import Where, addresses
from hub.identity.renewal import Nonces
from hub.programs.counter import Programs
from hub.rounds.refusal import seated
from hub.rounds.state import Gone
from hub.serving.clock import steady_clock
from hub.serving.denied import Denied
from hub.serving.desk import Desk
from hub.serving.door import believed
from hub.serving.guard import Guard
from hub.serving.standings import Standings
from hub.store import schema as t
from hub.store.collecting import collect
from hub.store.ledger import Row
from hub.store.registry import chosen, models, open_home
from hub.store.writes import put, put_device
from hub.workers.helped import BROKER, Helped
from wire import messages as m
from wire.identity import BrokerAt
from wire.keys import PrivateKey
from wire.record import plain
from wire.topics import Address, hub_subscriptions, parse_topic
from wire.transport import Transport

log = logging.getLogger("edgequilt.hub")
COLLECT_S = 3600.0
ANY_MODEL = "+"
Defer = Callable[[Callable[[], None]], None]


class Service:
    """One hub on one folder.

    Raises:
        UsageError: there is no hub in the folder.
        StorageError, HubError: its ledger cannot be used.
    """

    def __init__(self, folder: Path, transport: Transport, clock: Callable[[], float] | None = None) -> None:
        self.home = open_home(folder)
        self.transport, self.clock = transport, clock or steady_clock()
        self.desks: dict[str, Desk] = {}  # by model
        self._collected_at_s = -math.inf
        self._failures = 0  # of the ledger, after which the desks went on from what it says
        self.broker, self.broker_lacks = "", list[str]()  # for people; who starts the hub knows
        self.nonces = Nonces()
        self.broker_at: BrokerAt | None = None  # as devices find it; who starts the hub knows
        self.web = ""  # HOST:PORT where it serves HTTPS; empty: nowhere
        self.allow: Callable[[list[str]], None] = lambda names: None  # who may come to the broker
        self.end_session: Callable[[str], object] = lambda name: None  # of a device, at the broker
        self.denied, self.helped = Denied(), Helped(self.home, transport, self.clock)
        self.guard = Guard(self.home)
        self.bundles = Counter(self.home, transport, self.clock)
        self.programs = Programs(self.home, transport, self.bundles)
        self.standings = Standings(self.home, transport, self.bundles, self._trials)
        self._on: dict[Any, Callable[[str, Row, Any], None]] = {
            m.Hello: self._hello,
            m.Presence: self._presence,
            m.Failed: self._failed,
        }

    def start(self, defer: Defer = lambda call: call()) -> None:
        """Go on where the ledger stands. `defer` brings the transport's calls onto the thread that owns the hub."""
        for pattern in hub_subscriptions(self.home.config.fleet, ANY_MODEL):
            self.transport.subscribe(pattern)
        self.learn_models()
        self.transport.start(
            lambda topic, payload: defer(partial(self.handle, topic, payload)),
            lambda up: defer(partial(self.connected, up)),
            lambda fate: defer(partial(self.denied.learn, fate)) if fate.outcome == "denied" else None,
        )

    def speak_with(self, key: PrivateKey) -> None:
        """Sign with another key from now on, and say anew what lies with the broker under the one before."""
        self.home.key = key
        for desk in self.desks.values():
            desk.post.key = key
            self.greet(desk)
        self.standings.say_all()

    def nobody_is_online(self) -> None:
        """Forget who was online: at a new broker everybody says hello again."""
        with self.home.ledger.transaction() as tx:
            tx.execute(t.devices.update().values(online=False))

    def learn_models(self) -> list[Desk]:
        """Serve every model that has a bundle; returns what is new."""
        new = [found for name, found in models(self.home).items() if name not in self.desks]
        made = [Desk(self.home, found, self.transport, self.clock) for found in new]
        self.desks |= {desk.model.id: desk for desk in made}
        return made

    def desk(self, model: str = "") -> Desk:
        """The desk of a model; of the only one where none is named.

        Raises:
            HubError: there is none yet, none of that name, or a name is needed.
        """
        self._sure()
        return self.desks[chosen(sorted(self.desks), model)]

    def where(self) -> Where:
        """Where boards find this hub.

        Raises:
            HubError: it serves nothing.
        """
        if self.broker_at is None:
            raise HubError("expected a hub that boards can find, found one without a broker; start it anew")
        return Where(self.broker_at, tuple(addresses(self.home.config, self.web)))

    @property
    def open_rounds(self) -> list[int]:
        """The numbers of the open rounds of all models."""
        return sorted(number for desk in self.desks.values() for number in desk.conductor.open)

    def close(self) -> None:
        """Leave the transport and close the ledger."""
        self.transport.close()
        self.home.ledger.close()

    def connected(self, up: bool) -> None:
        """The connection came or went."""
        for desk in self.desks.values() if up else ():
            self.greet(desk)

    def greet(self, desk: Desk) -> None:
        """Say what everybody must know about a model, and go on with its rounds."""
        for greet in (desk.conductor.greet, desk.rollout.greet):
            self.guard(greet, f"after connecting ({desk.model.id})")

    def tick(self) -> None:
        """Let time pass; call it about once a second."""
        self.guard(self._sure, "at a tick")
        self._count()
        if self.clock() - self._collected_at_s >= COLLECT_S:
            self._collected_at_s = self.clock()
            self.guard(self._collect, "while deleting what is kept no longer")
        for desk in self.desks.values():
            for tick in (desk.conductor.tick, desk.rollout.tick, desk.updates.tick):
                self.guard(tick, f"at a tick ({desk.model.id})")

    def tell_workers(self, broker: str) -> None:
        """Say where workers find the broker."""
        if self.helped.possible:
            with self.home.ledger.transaction() as tx:
                put(tx, BROKER, broker)

    def _count(self) -> None:
        """Answer what workers took in."""
        found: list[Row] = []
        self.guard(lambda: found.extend(self.helped.look()), "while looking for workers")
        for row in found:
            desk = self.desks.get(row["model"])
            if desk is not None:
                self.guard(partial(desk.counting.arrived, row), f"while counting for {row['device']}")

    def _collect(self) -> None:
        found = collect(self.home, self.clock())
        if found["blobs"]:
            log.info("%d updates and %d files were let go", found["updates"], found["blobs"])

    def _trials(self, model: str) -> list[Deployment]:
        return list(self.desks[model].rollout.open.values()) if model in self.desks else []

    def leave_rounds(self, name: str, why: str) -> None:
        """A device takes no part any more: the open rounds that wait for it need not."""
        for desk in self.desks.values():
            for number, state in list(desk.conductor.open.items()):
                if any(seat.device == name and seat.state == "waiting" for seat in seated(state)):
                    desk.conductor.tell(number, Gone(name, why, state.phase == "gating"))
            desk.conductor.lose_tail(name, why)

    def handle(self, topic: str, payload: bytes) -> None:
        """Take a message; what does not hold is noted and changes nothing.

        A device may say hello before its model has a bundle here.
        """
        address = parse_topic(topic)
        if address is None or address.topic.direction != "up" or address.fleet != self.home.config.fleet:
            return
        self.guard(partial(self._take, address, payload), f"on {topic}")

    def _sure(self) -> None:
        """After a failure of the ledger, go on from what it says: the memory may be behind it."""
        failures = self.home.ledger.failures
        if failures == self._failures:
            return
        for desk in self.desks.values():
            desk.recall()
        self._failures = failures

    def _take(self, address: Address, payload: bytes) -> None:
        self._sure()
        kind, desk = address.topic.message, self.desks.get(address.model)
        if kind is m.Chunk:
            if desk is not None:
                desk.updates.chunk(address.device, m.decode(payload, m.Chunk))
            return
        device, message = believed(self.home.ledger, address, payload)
        if desk is None and kind not in self._on:
            return  # what needs a model, before there is one
        if not device["online"]:  # whoever speaks is there, even if its last will came late
            with self.home.ledger.transaction() as tx:
                put_device(tx, device["name"], online=True, seen_at_s=self.clock())
        if kind in self._on:
            self._on[kind](address.model, device, message)
        if desk is not None:
            desk.take(device, message, payload)

    def _hello(self, model: str, device: Row, message: m.Hello) -> None:
        known = {"hello": _known(message), "model": model, "online": True, "seen_at_s": self.clock()}
        with self.home.ledger.transaction() as tx:
            put_device(tx, device["name"], **known)
        self.standings.keys({**device, **known}, message.hub_keys)
        self.bundles.hello({**device, **known}, model, message.bundle)
        self.programs.hello({**device, **known}, model, message.program)
        self.standings.answer({**device, **known})

    def _failed(self, model: str, device: Row, message: m.Failed) -> None:
        self.bundles.failed(device, message)
        self.programs.failed(device, message)

    def _presence(self, model: str, device: Row, message: m.Presence) -> None:
        known = (device["hello"] or {}).get("sender", {}).get("boot")
        if message.state == "offline" and message.sender.boot != known:
            return  # the last will of an earlier start of the program
        with self.home.ledger.transaction() as tx:
            put_device(tx, device["name"], online=message.state == "online", seen_at_s=self.clock())


def _known(message: m.Hello) -> Row:
    """What this hub knows of a hello, as JSON takes it."""
    return cast(Row, plain(replace(message, extra={}, sender=replace(message.sender, extra={}))))
