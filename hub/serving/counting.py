"""What an update comes to: it counts once, or never will; one transaction, and only then a receipt."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Protocol

from hub.masking.stages import stage_of
from hub.rounds.conductor import Conductor, Write
from hub.rounds.halves import half_of, seat_of_tail
from hub.rounds.refusal import is_spoiled, missed, puts_off, refusal, seat_of
from hub.rounds.state import Arrived, Gone, Round, Seat
from hub.serving.post import Post
from hub.store import schema as t
from hub.store.ledger import Row
from hub.store.registry import Home
from hub.store.writes import drop_arrival, put_receipt, put_row
from wire import messages as m

log = logging.getLogger("edgequilt.hub")
METRICS_KEPT = 64


class Counts(Protocol):
    """Who answers for updates: the hub, or a worker of it that hands them on to the hub."""

    def answered(self, begin: m.Begin) -> bool:
        """Whether this very update of this job has its answer; then it is said again."""

    def refusal(self, begin: m.Begin) -> str:
        """Why it cannot count, whatever it holds; empty if it can."""

    def accept(self, begin: m.Begin, state: Round) -> None:
        """It counts: its blob is there, and its content is what was asked for."""

    def refuse(self, begin: m.Begin, why: str) -> None:
        """It does not, and never will."""

    def spoil(self, begin: m.Begin, why: str) -> None:
        """The same, and its device has nothing else to send for the job that it has: nobody waits for it."""

    def reject(self, begin: m.Begin, why: str, gate: bool) -> None:
        """The same for what came for a job that is out: its device will not do it again, so nobody waits for it."""


class Counting:
    """The hub's own: it alone writes the journal."""

    def __init__(self, home: Home, post: Post, conductor: Conductor, clock: Callable[[], float]) -> None:
        self.home, self.post, self.conductor, self.clock = home, post, conductor, clock

    def answered(self, begin: m.Begin) -> bool:
        """Whether this very update of this job has its answer; then it is said again."""
        known = self.home.ledger.receipt(begin.sender.device, begin.update, begin.job)
        if known is None:
            return False
        say_again(self.post, begin, known)
        return True

    def refusal(self, begin: m.Begin) -> str:
        """Why it cannot count, whatever it holds; empty if it can."""
        state = self.conductor.open.get(begin.round) or self.home.ledger.round(begin.round)
        return refusal_of(self.home, self.conductor.model.id, state, begin)

    def accept(self, begin: m.Begin, state: Round, *writes: Write) -> None:
        """It counts; `writes` are committed with it."""
        seat = seat_for(state, begin)
        device = begin.sender.device if seat is None else seat.device
        half = half_of(seat, begin.kind)
        event = Arrived(device, state.phase == "gating", stage_of(state), self.clock(), half)
        actions = self.conductor.record(
            begin.round,
            event,
            lambda tx: put_row(tx, t.updates, _update_row(begin, device, state, self.clock())),
            lambda tx: put_receipt(tx, _receipt_row(begin, "accepted", "", self.clock())),
            *writes,
        )
        say(self.post, begin, "accepted", "")
        self.conductor.perform(begin.round, actions)

    def refuse(self, begin: m.Begin, why: str, *writes: Write) -> None:
        """It does not, and never will."""
        log.info("update %s of %s refused: %s", begin.update[:12], begin.sender.device, why)
        with self.home.ledger.transaction() as tx:
            put_receipt(tx, _receipt_row(begin, "refused", why, self.clock()))
            for write in writes:
                write(tx)
        say(self.post, begin, "refused", why)

    def spoil(self, begin: m.Begin, why: str, *writes: Write) -> None:
        """The same, and its device has nothing else to send for the job that it has: nobody waits for it."""
        self.reject(begin, why, False, *writes)

    def reject(self, begin: m.Begin, why: str, gate: bool, *writes: Write) -> None:
        """Refuse what came for a job that is out: its device will not do it again, so nobody waits for it."""
        device = begin.sender.device
        log.info("update %s of %s refused: %s", begin.update[:12], device, why)
        seat = seat_for(self.conductor.open[begin.round], begin)
        gone = Gone(device, f"its update was refused: {why}"[:500], gate)
        row = _receipt_row(begin, "refused", why, self.clock())
        if begin.kind == "tail" and seat is not None:
            self.refuse(begin, why, *writes)
            self.conductor.lose_tail(device, f"its half was refused: {why}"[:500], begin.round, seat.device)
            return
        actions = self.conductor.record(begin.round, gone, lambda tx: put_receipt(tx, row), *writes)
        say(self.post, begin, "refused", why)
        self.conductor.perform(begin.round, actions)

    def arrived(self, row: Row) -> None:
        """Count what a worker took in; what cannot count yet stays for the next look."""
        begin, done = m.decode(bytes(row["body"]), m.Begin), lambda tx: drop_arrival(tx, row["id"])
        if self.answered(begin):
            self._drop(done)
        elif why := self.refusal(begin):
            answer = self.spoil if spoils(self.conductor.open.get(begin.round), begin) else self.refuse
            answer(begin, why, done)
        elif puts_off(state := self.conductor.open[begin.round]):
            return
        elif not row["whole"]:  # the worker was behind: to the hub there is a place for it
            self._drop(done)
        elif row["fault"]:
            self.reject(begin, row["fault"], state.phase == "gating", done)
        else:
            self.accept(begin, state, done)

    def _drop(self, done: Write) -> None:
        with self.home.ledger.transaction() as tx:
            done(tx)


def refusal_of(home: Home, model: str, state: Round | None, begin: m.Begin) -> str:
    """Why an update cannot count in a round, as a sentence; empty if it can."""
    device = home.ledger.device(begin.sender.device)
    if device is not None and device["quarantine"]:
        return f"{begin.sender.device} is in quarantine: {device['quarantine']}; drop this one"
    if state is not None and state.model != model:
        state = None  # a device on another model's topic
    seat = None if state is None else seat_for(state, begin)
    board = begin.sender.device if seat is None else seat.device
    if state is not None and home.ledger.update_for(begin.job, board):
        return f"round {begin.round} already counts another update of {board}; drop this one"
    return refusal(state, begin.job, begin.sender.device, begin.kind, begin.base)


def seat_for(state: Round, begin: m.Begin) -> Seat | None:
    """The seat of the board that an update is of, whoever sends it; None of a judge, or of nobody."""
    if begin.kind == "tail":
        return seat_of_tail(state, begin.job, begin.sender.device)
    return None if state.phase == "gating" else seat_of(state.seats, begin.sender.device)


def spoils(state: Round | None, begin: m.Begin) -> bool:
    """Whether what a device sends can never count for the job that it has, so that nobody need wait for it."""
    return state is not None and is_spoiled(state, begin.job, begin.sender.device, begin.kind, begin.base)


def say_again(post: Post, begin: m.Begin, known: Row) -> None:
    """The answer that an update has already."""
    say(post, begin, "duplicate" if known["status"] == "accepted" else known["status"], known["reason"])


def say(post: Post, begin: m.Begin, status: Any, reason: str) -> None:
    """A receipt."""
    device = begin.sender.device
    post.send(device, m.Receipt(device, begin.update, status, reason, {"job": begin.job}))


def _receipt_row(begin: m.Begin, status: str, reason: str, now_s: float) -> Row:
    return {
        "device": begin.sender.device,
        "digest": begin.update,
        "job": begin.job,
        "status": status,
        "reason": reason,
        "at_s": now_s,
    }


def _update_row(begin: m.Begin, device: str, state: Round, now_s: float) -> Row:
    """A row of the journal; `device` is the board that it is of."""
    return {
        "round": begin.round,
        "lap": state.lap,
        "staleness": missed(state, device),
        "device": device,
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
