"""Conducts deployments: gives events to the table, commits the new state, and does what the table says.

A deployment is in the ledger before any board is told of it, and a release is committed together with the state that
asks for it. What a killed hub leaves is found at the next tick: who serves the trial says so at every hello, whether
the round that judges it is over stands in the ledger, and a release that was committed is said again at every start.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from console.errors import HubError
from hub.deployments import deployment as d
from hub.deployments.deployment import Deployment
from hub.making.making import scores_of_round
from hub.rounds import gate
from hub.rounds.conductor import Conductor, put_release
from hub.rounds.state import Release, Round, Seat, Tick
from hub.serving.clock import after_start
from hub.store import schema as t
from hub.store.ledger import Row
from hub.store.writes import next_sequence, put_deployment, put_row, put_tip
from wire.messages import Canary
from wire.record import read_record

log = logging.getLogger("edgequilt.hub")
SERVER = "server"  # the profile of an agent that computes beside the hub


class Rollout:
    """The open deployments of one model."""

    def __init__(self, conductor: Conductor) -> None:
        self.conductor, self.home, self.post, self.clock = conductor, conductor.home, conductor.post, conductor.clock
        self.model = conductor.model.id
        self.open: dict[int, Deployment] = {}
        self.recall()
        self.open = {number: _after_start(state, self.clock()) for number, state in self.open.items()}

    def recall(self) -> None:
        """Read the open deployments from the ledger: after a failure nobody knows whether what was written is there."""
        rows = self.home.ledger.deployments(self.model)
        self.open = {s.number: s for s in map(read_deployment, rows) if s.is_open}

    def begin(self, version: str, against: str, group: str, boards: Iterable[str], promote: Any) -> Deployment:
        """Release a version to some boards on trial.

        Raises:
            HubError: there is a trial already, or nothing in use to come back to.
        """
        release = self.home.ledger.release(self.model)
        if release is None or release["digest"] == version:
            found = "none" if release is None else "this very version"
            raise HubError(f"expected another version in use, found {found}; release it to all: without --group")
        if self.open:
            number = next(iter(self.open))
            raise HubError(
                f"expected no open deployment, found number {number}; end it with `edgequilt hub promote` or "
                f"`edgequilt hub rollback`"
            )
        number, now_s, told = self.home.ledger.last_deployment() + 1, self.clock(), self.home.config.rounds
        kept = self.conductor.made(version).version.version
        with self.home.ledger.transaction() as tx:
            sequence = next_sequence(tx)
            put_release(tx, version, f"deployment {number}", now_s, group)
            limits = (told.deadline_s, now_s + told.deadline_s)
            who = (group, tuple(sorted(boards)))
            state = Deployment(number, version, against, release["digest"], *who, promote, sequence, *limits)
            put_deployment(tx, self.model, kept, state, now_s)
        self.open[number] = state
        self.tell(number, d.Opened())
        return state

    def tell(self, number: int, event: object) -> None:
        """Give an event to a deployment and do what follows."""
        state, actions = d.step(self.open[number], event)
        if d.Try() in actions:
            state = self._try(state)
        elif state != self.open[number]:
            self._put(state, actions)
        self.open[number] = state
        self._offer(state, [a.board for a in actions if isinstance(a, d.Offer)])
        if not state.is_open:
            del self.open[number]
            self.conductor.announce_tip()
            self.conductor.announce_release()

    def tick(self) -> None:
        """Let time pass: deadlines, boards that came to serve a trial, rounds that are over, other releases."""
        for number in list(self.open):
            if self._superseded(self.open[number]):
                continue
            self._look(number)
            if number in self.open:
                self.tell(number, Tick(self.clock()))
            if number in self.open and self.open[number].phase == "trying":
                self._judge(self.open[number])

    def greet(self) -> None:
        """Offer every trial again, after a start or a lost connection."""
        for state in self.open.values():
            self._offer(state, [a.board for a in d.resume(state) if isinstance(a, d.Offer)])

    def greet_device(self, device: str, serves: str, number: int) -> None:
        """Tell a device that came online which version is its own, if it serves another.

        Args:
            device: its name.
            serves: digest of the version that it serves; empty from older agents.
            number: of that version; -1 is none.
        """
        trial = next((s for s in self.open.values() if device in s.boards), None)
        release = self.home.ledger.release(self.model)
        if trial is not None and serves != trial.version:
            self._offer(trial, [device])
        elif trial is None and release is not None:
            other = serves != release["digest"] if serves else number != release["version"]
            if other:
                self.conductor.announce_release()

    def _look(self, number: int) -> None:
        """Find out which boards say that they serve the trial."""
        state = self.open[number]
        for row in self.home.ledger.devices() if state.phase == "spreading" else ():
            if row["name"] in state.boards and (row["hello"] or {}).get("serves") == state.version:
                self.tell(number, d.Serves(row["name"]))

    def _superseded(self, state: Deployment) -> bool:
        release = self.home.ledger.release(self.model)
        if release is None or release["sequence"] < state.sequence:
            return False
        self.tell(state.number, d.Superseded(f"version {release['version']} was released to all ({release['why']})"))
        return True

    def _offer(self, state: Deployment, boards: list[str]) -> None:
        if not boards:
            return
        made = self.conductor.made(state.version)
        self.post.version(made, tip=state.version == self.home.ledger.tip(self.model))
        for board in boards:
            message = Canary(board, self.model, state.sequence, made.version.version, state.version)
            self.post.send(board, message)

    def _try(self, state: Deployment) -> Deployment:
        """Open the round that judges the trial: the boards that serve it, and agents beside the hub."""
        ours = [row for row in self.home.ledger.devices() if row["model"] == self.model]
        rows = [row for row in ours if "evaluate" in (row["hello"] or {}).get("jobs", ())]
        judges = [r["name"] for r in rows if r["name"] in state.serving or (r["online"] and _is_server(r))]
        told, now_s = self.home.config.rounds, self.clock()
        number = self.home.ledger.last_round() + 1
        state = replace(state, round=number)
        opened = Round(
            number=number,
            kind="evaluate",
            versions=(state.version, state.against),
            settings={"split": "holdout"},
            quorum=max(1, math.ceil(told.quorum * len(judges))),
            deadline_s=told.deadline_s,
            deadline_at_s=now_s + told.deadline_s,
            candidate=False,
            seats=tuple(map(Seat, judges)),
            model=self.model,
        )
        kept = self.conductor.made(state.version).version.version
        self.conductor.begin(opened, lambda tx: put_deployment(tx, self.model, kept, state, now_s))
        return state

    def _judge(self, state: Deployment) -> None:
        """Let the gate decide when the round is over."""
        found = self.home.ledger.round(state.round)
        if found is None or found.is_open:
            return
        if found.phase == "failed":
            self.tell(state.number, d.Judged(False, f"round {state.round} failed: {found.sentence}", judged=False))
            return
        scores = scores_of_round(self.home, self.conductor.model, state.round).values()
        told, pair = self.home.config.rounds, (state.version, state.against)
        said = gate.decide(scores, *pair, told.gate_tolerance, told.gate_noise, self.conductor.model.labels)
        self.tell(state.number, d.Judged(said.released, said.sentence, judged=said.candidate is not None))

    def _put(self, state: Deployment, actions: tuple[d.Action, ...]) -> None:
        """Commit a state, with what of its actions must be committed together with it.

        All that is read is read before: a ledger may have one connection.
        """
        now_s, kept = self.clock(), self.conductor.made(state.version).version.version
        on_it = state.version in lineage(self.conductor, self.home.ledger.tip(self.model))
        text = f"deployment {state.number} {state.phase}: {state.sentence}"
        with self.home.ledger.transaction() as tx:
            put_deployment(tx, self.model, kept, state, now_s)
            for release in (a for a in actions if isinstance(a, Release)):
                put_release(tx, release.version, f"deployment {state.number} {state.phase}", now_s)
                # work that goes on from a promoted version stays, work on one that was rolled back does not
                if on_it != (state.phase == "promoted"):
                    put_tip(tx, self.model, release.version)
            if not state.is_open:
                put_row(tx, t.events, {"at_s": now_s, "round": state.round or None, "device": None, "text": text})


def _after_start(state: Deployment, now_s: float) -> Deployment:
    return replace(state, deadline_at_s=after_start(state.deadline_at_s, state.deadline_s, now_s))


def lineage(conductor: Conductor, digest: str) -> set[str]:
    """A version and those that it came from, by digest."""
    found = set[str]()
    while digest and digest not in found:
        found.add(digest)
        digest = conductor.made(digest).version.parent
    return found


def read_deployment(row: Row) -> Deployment:
    """A deployment from its row in the ledger."""
    return read_record(Deployment, row["detail"], f"deployment {row['id']} in the ledger")


def _is_server(row: Row) -> bool:
    return bool((row["hello"] or {}).get("profile") == SERVER)
