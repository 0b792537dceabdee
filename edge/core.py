"""The core: a small process that talks. It keeps the agent's life going and leaves all computing to a worker.

Light on purpose (no numpy, no onnxruntime, no rich): it is what stays in memory all day.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from console.errors import EdgequiltError
from edge import events as ev
from edge import protocol as p
from edge.alarms import Alarms
from edge.asides import Asides
from edge.deeds import FETCH, NO_PART, Deeds
from edge.health.watch import Watch
from edge.hearing import Hearing
from edge.idle.barrier import Barrier
from edge.intake import Intake
from edge.link import Link
from edge.masks import Masks
from edge.memory import memory
from edge.notice import Notice
from edge.outbox import Outbox
from edge.renewing import Renewing
from edge.rows import Rows
from edge.setup import Setup
from edge.split.crossings import Crossings
from edge.split.seats import Seats
from edge.split.table import SEATS
from edge.standing import STALE_S, News
from edge.status import Status
from edge.store import Store
from wire.messages import Hello
from wire.topics import device_subscriptions, topic_of
from wire.transport import Fate, Transport

if TYPE_CHECKING:
    from edge.slots.updates import Updates

log = logging.getLogger("edgequilt.agent")
HELLO = "hello"  # an alarm; updates are named by 64 digits
STATUS_EVERY_S = 1.0
FETCH_PATIENCE_S = 600.0
IDLE_WAIT_S = 30.0
MOST_HELD = 64  # messages; the hub says the others again


class Core:
    """One agent. `start`, then `run` until told to stop; a test calls `turn` instead of `run`."""

    def __init__(
        self, setup: Setup, transport: Transport, link: Link, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.setup, self.transport, self.link, self._clock = setup, transport, link, clock
        self.store, self.outbox, self.alarms = Store(setup.state), Outbox(setup.state, setup.outbox_bytes), Alarms()
        self.masks = Masks(setup.state)
        self.hearing = Hearing()
        self._hello = topic_of(setup.voice.fleet, setup.model, "up", Hello.TYPE, setup.name)
        self.status = Status(
            setup.state / "status.json",
            {
                **{k: getattr(setup, k) for k in ("model", "profile", "bundle", "rank", "budget_bytes")},
                "device": setup.name,
                "fleet": setup.voice.fleet,
            },
        )
        self.data = Rows(self)
        self.store.clean()
        silent_s, stale_s = self.status.restore(), STALE_S if setup.config is None else setup.config.stale_s
        self.news = News(setup.voice.boot, stale_s, clock(), silent_s)
        self.watch = Watch(setup.state)
        self.watch.look(clock())
        self.barrier = Barrier(setup.config.idle, link, clock)
        self._intake = Intake(setup, self.store)
        self._deeds = Deeds(self)
        self._renewing = Renewing(self)
        self._asides = Asides(self, self._renewing)
        self.barrier.settled = lambda: self.data.settled
        self.barrier.free = lambda: not self._renewing.proving
        self.crossings = Crossings(self)
        self.seats = Seats(
            link.another,
            self.crossings.begins,
            lambda *said: self._inbox.put(("seat", *said)),
            SEATS if setup.config is None else setup.config.seats,
        )
        self.barrier.begins, self.barrier.stops = self.crossings.begins, self.crossings.put_back
        self._plain: dict[str, Callable[..., None]] = {
            "connection": self._connection,
            "worker": self._deeds.answer,
            "seat": self._deeds.seat_says,
            "bundle": self._renewing.take,
            "call": lambda what: what(),
            "fate": self._fate,
        }
        self._held = list[tuple[Any, ...]]()  # messages that came while a bundle was proved
        self.again = False  # there is another bundle: begin anew
        self.updates: Updates | None = None  # of the agent itself, where a launcher has started it
        self._inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._wrote_at = self._fetching_since = -1e9
        self.life = p.Life(
            waiting={u.update: u.job for u in self.outbox.updates.values()},
            finished=frozenset(self.outbox.receipted_jobs()),
            masking=frozenset(self.masks.states),
        )
        if not setup.take_part:
            self._withdraw()
        for job in {*self.life.waiting.values(), *self.life.finished} & self.life.masking:
            self.masks.kept(job)

    def _withdraw(self) -> None:
        """Drop what was to be sent before this board was told to take no part."""
        for update in list(self.outbox.updates):
            self.outbox.receipt(update, "withdrawn", NO_PART)
        for job in list(self.masks.states):
            self.masks.forget(job)
        self.life = p.Life(finished=frozenset(self.outbox.receipted_jobs()))

    @property
    def intake(self) -> Intake:
        """What is on its way in."""
        return self._intake

    def now(self) -> float:
        """Seconds on the core's clock."""
        return self._clock()

    def start(self) -> None:
        """Connect, and go on with a release that was not complete."""
        self.link.start(lambda kind, fields: self._inbox.put(("worker", kind, fields)))
        self.crossings.listen()
        released = self.store.released
        self.status.set(connected=False, released=self._deeds.released())
        if released.seen is not None and released.seen.model == self.setup.model and released.seen != released.served:
            self.happen(ev.ReleaseCame(released.seen))
        self.transport.start(
            lambda topic, payload: self._inbox.put(("message", topic, payload)),
            lambda up: self._inbox.put(("connection", up)),
            lambda fate: self._inbox.put(("fate", fate)) if self.hearing.matters(fate) else None,
        )
        for pattern in device_subscriptions(self.setup.voice.fleet, self.setup.model, self.setup.name):
            self.transport.subscribe(pattern)
        self._renewing.start()
        if self.updates is not None:
            self.updates.start()

    @property
    def leaves(self) -> bool:
        """Whether another release of the agent is to start."""
        return self.updates is not None and self.updates.leaves

    def run(self, stop: threading.Event, notice: Notice | None = None) -> None:
        """Work until `stop` is set and `wake` was called, or until it should begin anew; systemd hears of it."""
        while not stop.is_set() and not self.again and not self.leaves:
            wait_s = self.turn()
            if notice is not None:
                wait_s = min(wait_s, notice.beat(self.transport.lives) or wait_s)
                notice.status(self.status.line())
            try:
                self._take(self._inbox.get(timeout=wait_s))
            except queue.Empty:
                continue
        if not self.again:
            self._renewing.calm()

    def wake(self) -> None:
        """Return from waiting; from any thread."""
        self._inbox.put(("wake",))

    def call(self, what: Callable[[], None]) -> None:
        """Have the core do something between two messages; from any thread."""
        self._inbox.put(("call", what))

    def turn(self) -> float:
        """Handle all that came and all that is due; returns how long nothing will be, in seconds."""
        while not self._inbox.empty():  # this thread is the only one that takes
            self._take(self._inbox.get())
        now = self.now()
        for name in self.alarms.ringing(now):
            self._ring(name)
        self._renewing.look()
        self._asides.look(now)
        if self.watch.look(now):
            self.status.dirty = True
            self._do(ev.SayHello())
        idle_s, watch_s = self._deeds.look(), self.link.poll()
        update_s = self.updates.look() if self.updates is not None else None
        if self.status.dirty and now - self._wrote_at >= STATUS_EVERY_S:
            self.write_status()
        wishes = [
            self.alarms.wait_s(now),
            watch_s,
            idle_s,
            self.data.look(now),
            update_s,
            self.crossings.look(),
            self.seats.look(),
            STATUS_EVERY_S if self.status.dirty else None,
        ]
        return max(0.0, min([IDLE_WAIT_S, *(w for w in wishes if w is not None)]))

    def close(self) -> None:
        """End the worker, say goodbye, write the last status."""
        self._renewing.close()
        if self.updates is not None:
            self.updates.close()
        self.crossings.close()
        self.seats.close()
        self.link.close()
        self._deeds.goodbye()
        self.transport.close()
        self.status.set(connected=False)
        self.write_status()
        self.outbox.close()

    def from_thread(self, kind: str) -> Callable[[str, dict[str, Any]], None]:
        """How another thread tells the core something."""
        return lambda what, fields: self._inbox.put((kind, what, fields))

    def say_failed(self, job: str, reason: str) -> None:
        """Tell the hub that something cannot be done."""
        self._deeds.say_failed(job, reason)

    def say_hello(self) -> None:
        """Tell the hub what runs here."""
        self._do(ev.SayHello())

    def prove_own(self) -> bool:
        """Have the bundle in use answer, for `updates`; False: there is none."""
        return self._renewing.prove_own()

    def happen(self, event: object) -> None:
        """One step of the protocol and its actions; an action may be an event again."""
        before = self.life
        self.life, actions = p.step(before, event)
        if self.life.phase == p.FETCHING and self.life.job is not before.job:
            self._fetching_since = self.now()
        for action in actions:
            self._do(action)
        self._intake.keep(self.life.all_lacking)
        if not self.life.all_lacking:
            self.alarms.drop(FETCH)

    def _do(self, action: object) -> None:
        try:
            self._deeds.do(action)
        except (EdgequiltError, OSError) as error:  # a full disk, say; what was not done is done after a restart
            log.error("%s: %s", type(action).__name__, error)  # noqa: TRY400  # one line, no traceback

    def write_status(self) -> None:
        """Write status.json now."""
        resident = memory().get("resident_bytes")
        self.status.set(phase=self.life.phase, waiting=len(self.life.waiting), core_bytes=resident)
        self.status.set(mqtt=self.transport.capabilities.protocol, **self.hearing.record(self.now()))
        self.status.set(**self.watch.record(), **self.news.record(self.now()))
        if self.status.now["trouble"] is None:
            self.status.set(trouble=self.news.trouble(self.now()))
        self.status.set(**self.crossings.record())
        self._wrote_at = self.now()
        self.status.write()

    def _take(self, item: tuple[Any, ...]) -> None:
        kind, *rest = item
        if kind == "message" and self.crossings.hear(*rest):
            return
        if self._renewing.proving and kind == "message":
            if len(self._held) < MOST_HELD:
                self._held.append(item)  # the worker has no time for a job now
        elif kind == "message":
            self._message(*rest)
        elif kind == "worker" and self._renewing.proving:
            self._renewing.answer(*rest)
            self._let_in()
        elif kind in self._plain:
            self._plain[kind](*rest)

    def _connection(self, up: bool) -> None:
        log.info("connected" if up else "connection lost")
        self.status.set(connected=up)
        for name in list(self.alarms.attempts):
            self.alarms.calm(name)  # whoever waited for a connection need not wait long any more
        if not up:
            self.hearing.lost(self.now())
        self.happen(ev.Connected() if up else ev.Lost())
        if up:
            self.crossings.connected()
            self._renewing.connected()
        if self.updates is not None:
            self.updates.connected(up)

    def _fate(self, fate: Fate) -> None:
        self.status.dirty = self.hearing.learn(fate) or self.status.dirty
        self.crossings.learn(fate)
        if fate.outcome == "unheard" and fate.topic == self._hello:
            self.alarms.arm(HELLO, self.now())  # a hub that comes for the first time is not told of it later

    def _let_in(self) -> None:
        """Take what was held back; where the core begins anew, all of it is said again."""
        while self._held and not self._renewing.proving and not self.again:
            self._take(self._held.pop(0))

    def _message(self, topic: str, payload: bytes) -> None:
        self.status.traffic.add(down=len(topic) + len(payload))
        self.status.dirty = True
        try:
            events = self._intake.read(topic, payload)
        except EdgequiltError as error:
            log.warning("ignored %s: %s", topic.rpartition("/")[2], error)
            return
        if self.updates is not None and "/down/" in topic and any(type(e) is not ev.KeysCame for e in events):
            self.updates.heard()
        for event in events:
            if self._asides.take(event):
                continue
            if isinstance(event, ev.JobCame):
                self.status.traffic.enter(event.job.round)
            if isinstance(event, ev.Stored):
                self.alarms.calm(FETCH)
            if isinstance(event, (ev.Wanted, ev.Receipted)):
                self.hearing.answered(event.update)
            self.happen(event)
            if isinstance(event, ev.Stored) and self.store.crowded():
                self._deeds.collect()

    def _ring(self, name: str) -> None:
        if name == HELLO:
            if self.life.connected:
                self._do(ev.SayHello())
            return
        waited_s = self.now() - self._fetching_since
        job = self.life.job
        if name == FETCH and job is not None and self.life.phase == p.FETCHING and waited_s > FETCH_PATIENCE_S:
            lacking = ", ".join(sorted(x[:12] for x in self.life.lacking))
            self.happen(ev.Crashed(job.job, f"expected {lacking} from the hub within {waited_s:.0f} s, found nothing"))
            return
        self.happen(ev.Due("" if name == FETCH else name))
        armed = name in self.alarms.at
        needed = bool(self.life.all_lacking) if name == FETCH else name in self.life.waiting
        if needed and not armed:  # offline: nothing was sent, look again later
            self.alarms.arm(name, self.now())
