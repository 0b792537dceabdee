"""Conducts rounds: gives events to the table, commits the new state, and does what the table says.

A state is committed together with what caused it, before anything is done about it. So a kill at any instant leaves
a state whose outstanding actions `rounds.resume` names; doing one of them twice gives the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from console.errors import EdgequiltError, StorageError
from hub.fixes import asking
from hub.fixes.keeping import forget_inputs
from hub.fixes.making import carried
from hub.making import versions
from hub.making.making import made_of, make, scores_of_round
from hub.making.model import Model
from hub.masking import desk as masking
from hub.rounds import gate, jobs
from hub.rounds import state as r
from hub.rounds import table as rounds
from hub.rounds.boards import next_devices, put_markers
from hub.rounds.following import following
from hub.rounds.seating import others_for, reached, seats_for, tails_of
from hub.rounds.state import Round
from hub.rounds.tails import Watched
from hub.serving.clock import after_start
from hub.serving.post import Post
from hub.store import schema as t
from hub.store.registry import Home, put_version
from hub.store.writes import drop_masks, next_sequence, put_job, put_round, put_row, put_tip
from wire.messages import Cancel, Job, decode

log = logging.getLogger("edgequilt.hub")
RESEND_S = 20.0
Write = Callable[[Connection], None]


class Conductor:
    """The open rounds of a hub, one model."""

    def __init__(self, home: Home, model: Model, post: Post, clock: Callable[[], float]) -> None:
        self.home, self.model, self.post, self.clock = home, model, post, clock
        self.open: dict[int, Round] = {}
        self.recall()
        self.open = {number: _after_start(state, clock()) for number, state in self.open.items()}
        self.rank = versions.read_made(home.ledger.versions(model.id)[0]).version.rank
        self._asked_at_s = clock()
        self._tails = Watched()

    def recall(self) -> None:
        """Read the open rounds from the ledger: after a failure nobody knows whether what was written is there."""
        self.open = {state.number: state for state in self.home.ledger.open_rounds(self.model.id)}

    def begin(self, state: Round, *writes: Write) -> None:
        """Open a round, and commit `writes` with it."""
        self.open[state.number] = state
        try:
            actions = self.record(state.number, r.Opened(), *writes, force=True)
        except StorageError:
            del self.open[state.number]
            raise
        self.perform(state.number, actions)

    def tell(self, number: int, event: object) -> None:
        """Give an event to a round and do what follows."""
        self.perform(number, self.record(number, event))

    def record(self, number: int, event: object, *writes: Write, force: bool = False) -> tuple[r.Action, ...]:
        """Commit the state after an event together with `writes`; returns what is to be done about it."""
        before = self.open[number]
        state, actions = rounds.step(before, event)
        ended = before.is_open and not state.is_open
        if ended and state.kind == "fix":
            state = asking.forgotten(state)
        after = self._following(state) if ended else None
        if state != before or writes or force:
            with self.home.ledger.transaction() as tx:
                for write in writes:
                    write(tx)
                self._put(tx, state, actions)
                if ended and state.secure is not None:
                    drop_masks(tx, number)
                if ended and state.kind == "fix":
                    forget_inputs(tx, number)
                if ended or (state.version != before.version and state.phase == "collecting"):
                    put_row(tx, t.events, self._event(state))
                if after is not None:
                    self._put(tx, after, rounds.resume(after))
        self.open[number] = state
        if after is not None:
            self.open[after.number] = after
        return actions

    def perform(self, number: int, actions: tuple[r.Action, ...]) -> None:
        """Do what the table says; everything here may be repeated after a kill."""
        state = self.open[number]
        asked = [a for a in actions if isinstance(a, r.Ask)]
        if asked:
            self._ask(state, asked)
        for action in actions:
            if isinstance(action, r.Withdraw):
                self.post.send(action.device, Cancel(action.device, jobs.name_of(state, action)))
            elif isinstance(action, r.Release):
                self.announce_release()
            elif isinstance(action, r.Retreat):
                self.announce_tip()
            elif isinstance(action, r.Make):
                self._make(state)
            elif isinstance(action, r.Judge):
                self._judge(state)
        if number in self.open and not self.open[number].is_open:
            del self.open[number]
            for after in [s for s in self.open.values() if s.follows == number]:
                self.perform(after.number, rounds.resume(after))

    def lose_tail(self, tail: str, reason: str, number: int = 0, device: str = "") -> None:
        """A device has no tails any more: its boards go on with others; or one board of one round does."""
        for state in list(self.open.values()):
            if state.phase == "collecting" and number in (0, state.number) and any(s.tail == tail for s in state.seats):
                others = others_for(self.home, self.model.id, self.open.values(), tail, itself=bool(device))
                self.tell(state.number, r.Lost(tail, reason, others, self.clock(), device))

    def greet(self) -> None:
        """Say what everybody must know and go on with every open round, after a start or a lost connection."""
        self.announce_tip()
        self.announce_release()
        for number, state in list(self.open.items()):
            self.perform(number, rounds.resume(state))
        self._asked_at_s = self.clock()

    def tick(self) -> None:
        """Let time pass: deadlines, and jobs that got lost."""
        now_s = self.clock()
        for tail, reason in self._tails.gone(self.home, self.open.values(), now_s):
            self.lose_tail(tail, reason)
        for number in list(self.open):
            self.tell(number, r.Tick(now_s))
        if now_s - self._asked_at_s >= RESEND_S:
            self._asked_at_s = now_s
            for state in list(self.open.values()):
                self._ask(state, [a for a in rounds.resume(state) if isinstance(a, r.Ask)])

    def ask_device(self, device: str) -> None:
        """Send a device that came online the jobs that wait for it."""
        for state in list(self.open.values()):
            asks = [a for a in rounds.resume(state) if isinstance(a, r.Ask) and a.device == device]
            self._ask(state, asks)

    def announce_tip(self) -> None:
        """Say which version work goes on from."""
        self.post.version(self.made(self.home.ledger.tip(self.model.id)), tip=True)

    def announce_release(self) -> None:
        """Say which version to serve, and what it is."""
        release = self.home.ledger.release(self.model.id)
        if release is None:
            return
        self.post.version(self.made(release["digest"]), tip=release["digest"] == self.home.ledger.tip(self.model.id))
        self.post.release(release)

    def made(self, digest: str) -> versions.Made:
        """A version of the ledger."""
        return made_of(self.home, digest)

    def _ask(self, state: Round, asks: list[r.Ask]) -> None:
        if not asks:
            return
        if state.secure is not None and state.secure.stage != "keys":
            for action in asks:
                self.post.send(action.device, masking.question(self.home, state, state.secure, action))
            return
        rows = [self.home.ledger.job(jobs.name_of(state, a)) for a in asks]
        messages = [decode(row["body"], Job) for row in rows if row is not None]
        tip = self.home.ledger.tip(self.model.id)
        for name in sorted({v for m in messages for v in m.versions}, key=lambda v: v == tip):
            self.post.version(self.made(name), tip=name == tip)
        for message in messages:
            self.post.send(message.device, message)

    def _put(self, tx: Connection, state: Round, actions: tuple[r.Action, ...]) -> None:
        """A state, with what of its actions must be committed together with it."""
        for action in actions:
            self._keep(tx, state, action)
        put_round(tx, state, self.clock())

    def _keep(self, tx: Connection, state: Round, action: r.Action) -> None:
        """What of an action must be committed together with the state."""
        if isinstance(action, r.Ask):
            put_job(tx, jobs.row_of(state, action, partial(reached, self.home)))
        elif isinstance(action, r.Release):
            put_release(tx, action.version, f"{'fix' if state.kind == 'fix' else 'round'} {state.number}", self.clock())
        elif isinstance(action, r.Retreat):
            put_tip(tx, self.model.id, action.version)

    def _make(self, state: Round) -> None:
        try:
            made = make(self.home, self.model, self.rank, state)
        except StorageError as error:  # a full disk may have room later: the next tick tries again
            log.warning("round %d: the version could not be kept yet: %s", state.number, error)
            return
        except EdgequiltError as error:
            self.tell(state.number, r.Unmade(str(error)))
            return
        except Exception as error:
            log.exception("round %d: the version could not be made", state.number)
            self.tell(state.number, r.Unmade(f"the version could not be made: {error!r}"))
            return
        release = self.home.ledger.release(self.model.id)
        counted = self.home.ledger.updates(state.number, state.update_kind, state.lap) if state.kind != "fix" else []
        following_ones = None if state.last else next_devices(self.home, state, counted, made.version.version)
        tips = self._tips(state, made)
        event = r.Made(
            made.digest,
            release["digest"] if release else self._bare(),
            self._judges(state),
            self.clock(),
            bool(made.version.head) or not self.model.features,
            made.notes,
            following_ones,
            () if state.last else self._seats(state, following_ones),
        )
        actions = self.record(
            state.number,
            event,
            lambda tx: put_version(tx, made, state.number, self.clock()),
            *tips,
            lambda tx: put_markers(tx, counted, made.version.version),
        )
        self.announce_tip()
        self.perform(state.number, actions)

    def _following(self, state: Round) -> Round | None:
        """The round that comes after one which has just ended, if any."""
        others = [one for one in self.open.values() if one.number != state.number]
        return following(self.home, self.model, state, others, self.clock())

    def _seats(self, state: Round, devices: tuple[str, ...] | None) -> tuple[r.Seat, ...]:
        """What the bundles of those that are asked next hold, and who has their tails."""
        names = tuple(s.device for s in state.seats) if devices is None else devices
        others = [one for one in self.open.values() if one.number != state.number]
        return seats_for(self.home, self.model, names, tails_of(self.home, self.model.id, others))

    def _tips(self, state: Round, made: versions.Made) -> list[Write]:
        """Work goes on from what was made; where it was ahead of what a fix is on top of, from that with the fix."""
        tip = self.home.ledger.tip(self.model.id)
        if state.kind == "fix" and not state.settings["release"]:
            return []
        if state.kind != "fix" or tip == state.start:
            return [lambda tx: put_tip(tx, self.model.id, made.digest)]
        ahead = carried(self.home, made, self.made(tip))
        return [
            lambda tx: put_version(tx, ahead, state.number, self.clock()),
            lambda tx: put_tip(tx, self.model.id, ahead.digest),
        ]

    def _bare(self) -> str:
        """What a first version is compared with: of a model that needs no head, the one that changes nothing."""
        return "" if self.model.features else str(self.home.ledger.versions(self.model.id)[0]["digest"])

    def _judges(self, state: Round) -> tuple[str, ...]:
        """The devices whose update is in the version and that can evaluate."""
        rows = self.home.ledger.devices()
        able = {row["name"] for row in rows if "evaluate" in (row["hello"] or {}).get("jobs", ())}
        return tuple(s.device for s in state.seats if s.state == "arrived" and s.device in able)

    def _judge(self, state: Round) -> None:
        scores = scores_of_round(self.home, self.model, state.number)
        told, pair = self.home.config.rounds, (state.version, state.against)
        decision = gate.decide(scores.values(), *pair, told.gate_tolerance, told.gate_noise, self.model.labels)
        self.tell(
            state.number,
            r.Judged(decision.released, decision.candidate, decision.parent, decision.sentence, decision.error),
        )

    def _event(self, state: Round) -> dict[str, Any]:
        return {
            "at_s": self.clock(),
            "round": state.number,
            "device": None,
            "text": f"round {state.number} ({state.kind}) {state.phase}: {state.sentence}",
        }


def _after_start(state: Round, now_s: float) -> Round:
    return replace(state, deadline_at_s=after_start(state.deadline_at_s, state.deadline_s, now_s))


def put_release(tx: Connection, digest: str, why: str, now_s: float, group: str = "") -> None:
    """Keep that a version is the one to serve, for all devices or for a group on trial."""
    c = t.versions.c
    version = tx.execute(select(c.number, c.model).where(c.digest == digest)).one()
    put_row(
        tx,
        t.releases,
        {
            "sequence": next_sequence(tx),
            "model": version.model,
            "group": group,
            "version": version.number,
            "digest": digest,
            "why": why,
            "at_s": now_s,
        },
    )
