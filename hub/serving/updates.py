"""The way of an update into the journal: begin, chunks, commit, one door, one transaction, and only then a receipt."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from console.errors import BadData
from hub.making.contributions import starts
from hub.masking.making import layout_of_round
from hub.masking.stages import stage_of
from hub.rounds.conductor import Conductor
from hub.rounds.refusal import missed, puts_off, refusal
from hub.rounds.state import Arrived, Gone, Round
from hub.serving.asked import asked_of
from hub.serving.check import check
from hub.serving.inbox import Inbox
from hub.serving.post import Post
from hub.store import schema as t
from hub.store.ledger import Row
from hub.store.partial_files import FilePartials
from hub.store.partials import Partial, SmallApart
from hub.store.registry import Home
from hub.store.writes import put_receipt, put_row
from wire import messages as m
from wire.chunks import indexes_of

log = logging.getLogger("edgequilt.hub")
INDEXES_AT_ONCE, RANGES_AT_ONCE = 1024, 256
FOLDER = "partial"
METRICS_KEPT = 64


class Updates:
    """Takes the updates of one model's devices."""

    def __init__(self, home: Home, post: Post, conductor: Conductor, clock: Callable[[], float]) -> None:
        self.home, self.post, self.conductor, self.clock = home, post, conductor, clock
        self.inbox = Inbox(SmallApart(FilePartials(home.folder / FOLDER / conductor.model.id)), clock)

    def begin(self, begin: m.Begin) -> None:
        """An update is announced: refused before its bytes are taken, or awaited."""
        if self._answered(begin):
            return
        why = self._refusal(begin)
        if why:
            self._refuse(begin, why)
        else:
            self.inbox.begin(begin)

    def chunk(self, device: str, chunk: m.Chunk) -> None:
        """A piece; the last one delivers the update if its commit came before."""
        if self.inbox.add(device, chunk):
            self._deliver(device, chunk.blob)

    def commit(self, commit: m.Commit) -> None:
        """All was sent: deliver it, or say what is missing.

        A commit whose beginning is unknown is always asked for it, even where its bytes have an answer: the same
        bytes may belong to another job by now, and only the beginning names the job.
        """
        device = commit.sender.device
        found = self.inbox.commit(device, commit.update)
        if found is not None and found.whole:
            self._deliver(device, commit.update)
        else:
            self._ask(device, commit.update, found)

    def tick(self) -> None:
        """Forget what belongs to rounds that are over."""
        self.inbox.keep_rounds(set(self.conductor.open))

    def _ask(self, device: str, update: str, found: Partial | None) -> None:
        """Say what is missing; nothing while it could not be kept: the device asks again, with growing pauses."""
        if self.inbox.is_full:
            return
        if found is None:
            self.post.send(device, m.Missing(device, update, begin=True))
            return
        ranges = found.missing[:RANGES_AT_ONCE]
        indexes = indexes_of(ranges, len(found.present))[:INDEXES_AT_ONCE]
        self.post.send(device, m.Missing(device, update, indexes, ranges=ranges))

    def _deliver(self, device: str, update: str) -> None:
        """What is whole goes into the journal, by one worker of the hub at a time."""
        with self.inbox.store.alone(device, update) as alone:
            found = self.inbox.store.get(device, update) if alone else None
            if found is not None:
                self._take(found.begin)

    def _take(self, begin: m.Begin) -> None:
        device = begin.sender.device
        if self._answered(begin):  # it was counted, but the hub was not told so
            self.inbox.drop(device, begin.update)
            return
        data = self.inbox.store.join(device, begin.update)
        if data is None:
            self._ask(device, begin.update, self.inbox.store.get(device, begin.update))
            return
        why = self._refusal(begin)
        if why:
            self._refuse(begin, why)
            return
        state = self.conductor.open[begin.round]
        if puts_off(state):
            return  # as if the commit had been lost: the device sends it again
        fault = self._fault(data, begin)
        if fault:
            self._reject(begin, fault, state.phase == "gating")
            return
        self.home.blobs.put(data)
        del data  # it may be the last of its round, and then a version is made while this waits
        event = Arrived(device, state.phase == "gating", stage_of(state), self.clock())
        actions = self.conductor.record(
            begin.round,
            event,
            lambda tx: put_row(tx, t.updates, _update_row(begin, state, self.clock())),
            lambda tx: put_receipt(tx, _receipt_row(begin, "accepted", "", self.clock())),
        )
        self.inbox.drop(device, begin.update)
        self._receipt(begin, "accepted", "")
        self.conductor.perform(begin.round, actions)

    def _fault(self, data: bytes, begin: m.Begin) -> str:
        """What is wrong with the content; empty if nothing is."""
        state = self.conductor.open[begin.round]
        if state.secure is not None:
            wanted = layout_of_round(self.conductor.model, state, state.secure).bytes
            return "" if len(data) == wanted else f"expected {wanted} bytes under masks, found {len(data)}"
        try:
            check(data, begin, self.conductor.model, asked_of(state, self.conductor.rank, starts(self.home)))
        except BadData as error:
            return str(error)
        return ""

    def _refusal(self, begin: m.Begin) -> str:
        """Why it cannot count, whatever it holds; empty if it can."""
        state = self.conductor.open.get(begin.round) or self.home.ledger.round(begin.round)
        if state is not None and state.model != self.conductor.model.id:
            state = None  # a device on another model's topic
        if state is not None and self.home.ledger.update_for(begin.job, begin.sender.device):
            return f"round {begin.round} already counts another update of {begin.sender.device}; drop this one"
        return refusal(state, begin.job, begin.sender.device, begin.kind, begin.base)

    def _answered(self, begin: m.Begin) -> bool:
        """Whether this very update of this job has its answer; then it is said again."""
        known = self.home.ledger.receipt(begin.sender.device, begin.update, begin.job)
        if known is None:
            return False
        self._receipt(begin, "duplicate" if known["status"] == "accepted" else known["status"], known["reason"])
        return True

    def _refuse(self, begin: m.Begin, why: str) -> None:
        log.info("update %s of %s refused: %s", begin.update[:12], begin.sender.device, why)
        with self.home.ledger.transaction() as tx:
            put_receipt(tx, _receipt_row(begin, "refused", why, self.clock()))
        self.inbox.drop(begin.sender.device, begin.update)
        self._receipt(begin, "refused", why)

    def _reject(self, begin: m.Begin, why: str, gate: bool) -> None:
        """Refuse what came for a job that is out: its device will not do it again, so nobody waits for it."""
        device = begin.sender.device
        log.info("update %s of %s refused: %s", begin.update[:12], device, why)
        gone = Gone(device, f"its update was refused: {why}"[:500], gate)
        row = _receipt_row(begin, "refused", why, self.clock())
        actions = self.conductor.record(begin.round, gone, lambda tx: put_receipt(tx, row))
        self.inbox.drop(device, begin.update)
        self._receipt(begin, "refused", why)
        self.conductor.perform(begin.round, actions)

    def _receipt(self, begin: m.Begin, status: Any, reason: str) -> None:
        device = begin.sender.device
        self.post.send(device, m.Receipt(device, begin.update, status, reason, {"job": begin.job}))


def _receipt_row(begin: m.Begin, status: str, reason: str, now_s: float) -> Row:
    return {
        "device": begin.sender.device,
        "digest": begin.update,
        "job": begin.job,
        "status": status,
        "reason": reason,
        "at_s": now_s,
    }


def _update_row(begin: m.Begin, state: Round, now_s: float) -> Row:
    return {
        "round": begin.round,
        "lap": state.lap,
        "staleness": missed(state, begin.sender.device),
        "device": begin.sender.device,
        "kind": begin.kind,
        "digest": begin.update,
        "base": begin.base,
        "job": begin.job,
        "samples": begin.samples if state.secure is None else 0,  # what a sum is to hide, no board has to say
        "bytes": begin.bytes,
        "metrics": _numbers(begin.metrics) if state.secure is None else {},
        "at_s": now_s,
    }


def _numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """The finite numbers among an update's metrics, and lists of them; nothing else is kept."""
    found = {str(k)[:64]: v for k, v in metrics.items() if _is_number(v) or _are_numbers(v)}
    return dict(list(found.items())[:METRICS_KEPT])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and len(value) <= METRICS_KEPT and all(map(_is_number, value))
