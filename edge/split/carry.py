"""The core's part in a split job: it carries what its worker and the other half say to each other, signed and checked.

A job that the hub signed names the other device and its key. Whatever does not come from that device, signed by that
key and for that job, is counted and goes no further. Nothing is kept on disk: a half whose core ends has failed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from console.errors import EdgequiltError
from edge.split.half import Half
from edge.split.stream import ENDED, WINDOW, Stream
from edge.split.told import other_of
from edge.split.ways import Ways
from wire.envelope import Trust, unseal
from wire.messages import PART_LIMIT_BYTES, Crossing, Peer, decode
from wire.topics import Address, entry_of, peer_subscription

if TYPE_CHECKING:
    from edge.core import Core
    from edge.request import Request

log = logging.getLogger("edgequilt.agent")
LINGER_S, LAST_WORD_S = 60.0, 300.0  # after a job: to answer who asks again; to have the last word heard
MESSAGE_LIMIT_BYTES = PART_LIMIT_BYTES + (64 << 10)
LINGERING = 4  # halves that are over
DIRECT_S = 30.0
DENIED = "the broker lets no device speak to another one: add the lines of `edgequilt hub broker-config` to its list"


@dataclass
class Counts:
    """What came and was not believed, and why."""

    stranger: int = 0  # of a device or a job that we have nothing to do with
    forged: int = 0  # not signed by the key that the hub named
    malformed: int = 0
    oversize: int = 0
    stale: int = 0  # of an earlier start
    repeated: int = 0  # parts that were said again
    crossings: int = 0
    up_bytes: int = 0
    down_bytes: int = 0


@dataclass
class Carry:
    """All split jobs of a core: one that runs, and some that are over."""

    core: Core
    halves: list[Half] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    address: str = ""  # where boards may connect to us

    def __post_init__(self) -> None:
        self._ways = Ways(self.core, self._hear, self._drop)

    def listen(self) -> None:
        """Let boards connect, where agent.toml says so."""
        self.address = self._ways.listen(lambda: self.halves)

    def close(self) -> None:
        """The agent ends."""
        self.end_all("the agent ends")
        self._ways.close()

    def begin(self, request: Request) -> None:
        """The worker begins a job."""
        other = other_of(request.id, request.kind, request.settings)
        if other is None:
            return
        same = [half for half in self.halves if half.other.job == other.job]
        over = [half for half in self.halves if half.over_at is not None]
        self._forget(list(dict.fromkeys([*same, *over[:-LINGERING]])), listen=True)
        self.core.transport.subscribe(self._pattern())
        self.halves.append(Half(request.id, other, Trust([other.key]), Stream(self.core.now())))
        log.info("%s is split: the other half is %s", request.id, other.name)
        self._settle(self.halves[-1])

    def said(self, job: str, fields: dict[str, Any]) -> None:
        """The worker says something to the other half."""
        half = self._running(job)
        if half is not None:
            names = ("what", "step", "micro", "part", "parts", "fields", "data")
            half.stream.say({name: fields[name] for name in names}, self.core.now())
            self._settle(half)

    def taken(self, job: str) -> None:
        """The worker has taken a part."""
        half = self._running(job)
        if half is not None:
            half.stream.took(self.core.now())
            self._settle(half)

    def end(self, job: str, reason: str = "") -> None:
        """The worker's job is over; with a reason it failed, which the other half hears."""
        half = self._running(job)
        if half is not None:
            half.stream.end(reason)
            half.over_at = self.core.now()
            self._settle(half)

    def end_all(self, reason: str) -> None:
        """Whatever runs is over."""
        for half in self.halves:
            if half.over_at is None:
                self.end(half.id, reason)

    def hear(self, address: Address, payload: bytes) -> None:
        """A message of another device, as it came."""
        if address.receiver != self.core.setup.name or len(payload) > MESSAGE_LIMIT_BYTES:
            self._drop("oversize" if address.receiver == self.core.setup.name else "stranger")
            return
        self._hear(address.device, address.topic.message, payload)

    def denied(self, topic: str) -> None:
        """The broker lets something not pass: the other half will hear of nothing."""
        for half in self.halves:
            if half.denied_at is None and topic.endswith((f"/{half.other.name}/crossing", f"/{half.other.name}/peer")):
                half.denied_at = self.core.now()

    def connected(self) -> None:
        """Another connection stands."""
        for half in self.halves:
            half.stream.repeat(self.core.now())
            self._settle(half)

    def look(self) -> float | None:
        """What time brings; returns in how many seconds there may be more."""
        if not self.halves:
            return None
        now, waits = self.core.now(), [LINGER_S]
        for half in self.halves:
            self._ways.look(half, now)
            if half.denied_at is not None and half.link is None and now - half.denied_at >= self._patience_s(half):
                half.stream.lose(DENIED)
            waits.append(half.stream.look(now) if half.over_at is None or not half.stream.gone else LINGER_S)
            self._settle(half)
        self._forget([half for half in self.halves if _is_over(half, now)])
        return min(waits)

    def record(self) -> dict[str, Any]:
        """For status.json."""
        self.counts.stale += sum(half.stream.take_stale() for half in self.halves)
        self.counts.repeated += sum(half.stream.take_repeated() for half in self.halves)
        now = [half.record() for half in self.halves if half.over_at is None]
        return {"now": now, **vars(self.counts)}

    # ------------------------------------------------------------------------------------------ inside

    def _hear(self, device: str, kind: type[Crossing | Peer], payload: bytes) -> None:
        """A message of another device, by whichever way."""
        halves = [half for half in self.halves if half.other.name == device]
        if not halves:
            self._drop("stranger")
            return
        half = self._checked(halves, kind, payload)
        if half is not None:
            self._settle(half)

    def _checked(self, halves: list[Half], kind: type[Crossing | Peer], payload: bytes) -> Half | None:
        """The half that a message is for, which has heard it; None: it is not believed."""
        last = halves[-1]
        try:
            body, key = unseal(payload, "device", last.trust, f"a {kind.TYPE} of {last.other.name}")
        except EdgequiltError as error:
            log.debug("ignored: %s", error)
            self._drop("forged")
            return None
        try:
            message = decode(body, kind)
        except EdgequiltError as error:
            log.debug("ignored: %s", error)
            self._drop("malformed")
            return None
        for half in halves:
            if (
                half.other.job == message.job
                and half.other.key.id == key.id
                and message.sender.device == half.other.name
            ):
                self.counts.crossings += isinstance(message, Crossing)
                self.counts.down_bytes += len(payload)
                half.stream.heard(message, self.core.now())
                return half
        self._drop("stranger")
        return None

    def _settle(self, half: Half) -> None:
        """Do what the stream wants done."""
        stream = half.stream
        while stream.out:
            kind, fields = stream.out.pop(0)
            self._say(half, kind, fields)
        if half.over_at is not None:
            stream.parts.clear()
            return
        while stream.parts:
            self._tell(half, "note", stream.parts.pop(0))
        if half.until != stream.answered + WINDOW:
            half.until = stream.answered + WINDOW
            self._tell(half, "credit", {"until": half.until})
        if stream.gone and not half.told_gone:
            half.told_gone = True
            # without a reason it has ended well, and our worker, whose word is still on its way, most likely has, too
            log.log(logging.DEBUG if stream.gone == ENDED else logging.WARNING, "%s: %s", half.id, stream.gone)
            gone = {"what": "gone", "step": 0, "micro": 0, "part": 0, "parts": 1, "fields": {"reason": stream.gone}}
            self._tell(half, "note", {**gone, "data": b""})

    def _tell(self, half: Half, kind: str, fields: dict[str, Any]) -> None:
        """Say something to the worker that has the half."""
        if not self.core.seats.tell(half.id, kind, fields):
            self.core.link.tell(kind, fields)

    def _say(self, half: Half, kind: type[Crossing | Peer], fields: dict[str, Any]) -> None:
        core, entry = self.core, entry_of("peer", kind.TYPE)
        topic, payload = core.setup.voice.sealed_to(half.other.name, kind, job=half.other.job, **fields)
        if self._ways.send(half, kind, payload) or core.transport.publish(
            topic, payload, qos=entry.qos, expiry_s=entry.expiry_s
        ):
            core.status.traffic.add(up=len(topic) + len(payload))
            self.counts.up_bytes += len(payload)

    def _patience_s(self, half: Half) -> float:
        """How long a direct connection may take where the broker denies all."""
        return DIRECT_S if half.other.address or (self.address and not half.other.tail) else 0.0

    def _forget(self, halves: list[Half], *, listen: bool = False) -> None:
        for half in halves:
            self._ways.part(half)
        before, self.halves = self.halves, [half for half in self.halves if half not in halves]
        if before and not self.halves and not listen:
            self.core.transport.unsubscribe(self._pattern())

    def _running(self, job: str) -> Half | None:
        return next((half for half in self.halves if half.id == job and half.over_at is None), None)

    def _drop(self, why: str) -> None:
        setattr(self.counts, why, getattr(self.counts, why) + 1)

    def _pattern(self) -> str:
        own = self.core.setup.voice
        return peer_subscription(own.fleet, own.model, own.device)


def _is_over(half: Half, now_s: float) -> bool:
    if half.over_at is None:
        return False
    return now_s - half.over_at > (LINGER_S if half.stream.gone else LAST_WORD_S)
