"""The hub itself, without threads: messages and time in, ledger, messages out.

`handle` and `tick` are called by one thread at a time. Everything that must survive a kill is in the ledger before
anybody is told of it; partial updates are not: their devices send again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from console.errors import BadData, EdgequiltError
from hub import rounds, versions
from hub import schema as t
from hub.check import check
from hub.conductor import Conductor
from hub.inbox import Inbox, Partial
from hub.ledger import Row, put_device, put_receipt, put_row
from hub.post import Post
from hub.registry import model, open_home
from wire import messages as m
from wire.envelope import Trust, unseal
from wire.keys import parse_public_key
from wire.record import plain
from wire.topics import Address, hub_subscriptions, parse_topic
from wire.transport import Transport

log = logging.getLogger("edgequilt.hub")
MISSING_AT_ONCE = 1024
REASONS_KEPT = 20
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
        self.inbox = Inbox()
        self.conductor: Conductor | None = None
        self.blobs: set[str] = set()  # what devices may fetch
        self.broker, self.broker_lacks = "", list[str]()  # for people; who starts the hub knows
        self.ignored, self.reasons = 0, dict[str, str]()  # what did not hold: how often, and why last
        self._on: dict[Any, Callable[[Row, Any], None]] = {
            m.Hello: self._hello,
            m.Presence: self._presence,
            m.Begin: self._begin,
            m.Commit: self._commit,
            m.Fetch: self._fetch,
            m.Failed: self._failed,
        }

    def start(self, defer: Defer = lambda call: call()) -> None:
        """Go on where the ledger stands. `defer` brings the transport's calls onto the thread that owns the hub."""
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
        for pattern in hub_subscriptions(self.home.config.fleet, found.id):
            self.transport.subscribe(pattern)

    def close(self) -> None:
        """Leave the transport and close the ledger."""
        self.transport.close()
        self.home.ledger.close()

    def connected(self, up: bool) -> None:
        """The connection came or went."""
        if up and self.conductor is not None:
            self._guard(self.conductor.greet, "after connecting")

    def tick(self) -> None:
        """Let time pass; call it about once a second."""
        if self.conductor is not None:
            self._guard(self.conductor.tick, "at a tick")
            self.inbox.keep_rounds(set(self.conductor.open))

    def handle(self, topic: str, payload: bytes) -> None:
        """Take a message; what does not hold is logged and changes nothing."""
        address = parse_topic(topic)
        ours = (self.home.config.fleet, self.post.model)
        if address is None or address.topic.direction != "up" or (address.fleet, address.model) != ours:
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
            whole = self.inbox.add(address.device, m.decode(payload, m.Chunk))
            if whole is not None:
                self._deliver(whole)
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
        self._on[kind](device, message)

    def _hello(self, device: Row, message: m.Hello) -> None:
        with self.home.ledger.transaction() as tx:
            put_device(tx, device["name"], hello=_known(message), online=True, seen_at_s=self.clock())
        if self.conductor is None:
            return
        release = self.home.ledger.release()
        if release is not None and message.released != release["version"]:
            self.conductor.announce_release()
        self.conductor.ask_device(device["name"])

    def _presence(self, device: Row, message: m.Presence) -> None:
        known = (device["hello"] or {}).get("sender", {}).get("boot")
        if message.state == "offline" and message.sender.boot != known:
            return  # the last will of an earlier start of the program
        with self.home.ledger.transaction() as tx:
            put_device(tx, device["name"], online=message.state == "online", seen_at_s=self.clock())

    def _begin(self, device: Row, message: m.Begin) -> None:
        if self._answered(message):
            return
        why = self._refusal(message)
        if why:
            self._refuse(message, why)
        else:
            self.inbox.begin(message)

    def _commit(self, device: Row, message: m.Commit) -> None:
        found = self.inbox.commit(device["name"], message.update)
        if found is None:
            self.post.send(device["name"], m.Missing(device["name"], message.update, begin=True))
        elif missing := found.assembly.missing():
            self.post.send(device["name"], m.Missing(device["name"], message.update, missing[:MISSING_AT_ONCE]))
        else:
            self._deliver(found)

    def _deliver(self, whole: Partial) -> None:
        """A whole update: let it in by the one door, journal it, and only then say so."""
        begin, conductor = whole.begin, self.conductor
        data = whole.assembly.join()
        if data is None:
            missing = whole.assembly.missing()[:MISSING_AT_ONCE]
            self.post.send(begin.sender.device, m.Missing(begin.sender.device, begin.update, missing))
            return
        why = self._refusal(begin)
        state = None if conductor is None else conductor.open.get(begin.round)
        if why or conductor is None or state is None:
            self._refuse(begin, why)
            return
        gate = state.phase == "gating"
        judged = (state.version, state.against) if gate else state.versions
        try:
            check(data, begin, conductor.model, conductor.rank, judged)
        except BadData as error:
            self._refuse(begin, str(error))
            return
        self.home.blobs.put(data)
        event = rounds.Arrived(begin.sender.device, gate)
        actions = conductor.record(
            begin.round,
            event,
            lambda tx: put_row(tx, t.updates, self._update_row(begin)),
            lambda tx: put_receipt(tx, self._receipt_row(begin, "accepted", "")),
        )
        self.inbox.drop(begin.sender.device, begin.update)
        self._receipt(begin, "accepted", "")
        conductor.perform(begin.round, actions)

    def _refusal(self, begin: m.Begin) -> str:
        state = None if self.conductor is None else self.conductor.open.get(begin.round)
        state = state or self.home.ledger.round(begin.round)
        if state is not None and self.home.ledger.update_of(begin.round, begin.sender.device, begin.kind):
            return f"round {begin.round} already counts another update of {begin.sender.device}; drop this one"
        return rounds.refusal(state, begin.job, begin.sender.device, begin.kind, begin.base)

    def _answered(self, begin: m.Begin) -> bool:
        """Whether this very update of this job has its answer; then it is said again."""
        known = self.home.ledger.receipt(begin.sender.device, begin.update, begin.job)
        if known is None:
            return False
        self._receipt(begin, "duplicate" if known["status"] == "accepted" else known["status"], known["reason"])
        return True

    def _refuse(self, begin: m.Begin, why: str) -> None:
        log.info("update %s of %s refused: %s", begin.update[:12], begin.sender.device, why)
        self.inbox.drop(begin.sender.device, begin.update)
        with self.home.ledger.transaction() as tx:
            put_receipt(tx, self._receipt_row(begin, "refused", why))
        self._receipt(begin, "refused", why)

    def _receipt(self, begin: m.Begin, status: Any, reason: str) -> None:
        device = begin.sender.device
        self.post.send(device, m.Receipt(device, begin.update, status, reason, {"job": begin.job}))

    def _receipt_row(self, begin: m.Begin, status: str, reason: str) -> Row:
        return {
            "device": begin.sender.device,
            "digest": begin.update,
            "job": begin.job,
            "status": status,
            "reason": reason,
            "at_s": self.clock(),
        }

    def _update_row(self, begin: m.Begin) -> Row:
        return {
            "round": begin.round,
            "device": begin.sender.device,
            "kind": begin.kind,
            "digest": begin.update,
            "base": begin.base,
            "job": begin.job,
            "samples": begin.samples,
            "bytes": begin.bytes,
            "metrics": _numbers(begin.metrics),
            "at_s": self.clock(),
        }

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
            self.conductor.tell(row["round"], rounds.Gone(device["name"], message.reason[:500], gate))


def _known(message: m.Hello) -> Row:
    """What this hub knows of a hello, as JSON takes it."""
    return cast(Row, plain(replace(message, extra={}, sender=replace(message.sender, extra={}))))


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    """The finite numbers of an update's metrics; nothing else is kept of them."""
    found = {str(k)[:64]: float(v) for k, v in metrics.items() if isinstance(v, (int, float))}
    return dict(list({k: v for k, v in found.items() if math.isfinite(v)}.items())[:64])
