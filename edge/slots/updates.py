"""A new release's way into use, on the core's side: named by the hub, made by a process of its own, tried, kept or not.

What the hub names is written down (edge.slots.record), a process does what takes long (edge.slots.steps), and then the
agent ends so that the launcher starts the other release. That one is on trial until it is healthy (edge.slots.trial).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from console.errors import EdgequiltError, VerificationError
from edge.slots.ends import At, back, commit, quiet
from edge.slots.helper import SILENCE_S, Helper
from edge.slots.record import BACK, COMMIT, FETCH, SWITCH, TRIAL, Record
from edge.slots.slots import Slots, running
from edge.slots.trial import Limits, Trial
from wire.backoff import full_jitter
from wire.messages import Program

log = logging.getLogger("edgequilt.agent")
ORDER = "release-"  # and the sequence: the name of an order where a job would be named
LOOK_EVERY_S = 0.5
FIRST_S, LAST_S = 1.0, 300.0
OURS = (SWITCH, TRIAL)  # states in which the trial is of the order that is written down
LATER = 75  # of edge.slots.job


def most_attempts(state: str) -> int:
    """How often a state is begun that ends without a word; fetching takes long, and power cuts are counted as well."""
    return 20 if state == FETCH else 5


class Ways(Protocol):
    """What an update needs of the agent around it."""

    def failed(self, order: str, reason: str) -> None:
        """Tell the hub; nothing happens where there is no connection."""

    def show(self, **fields: Any) -> None:
        """For status.json."""

    def prove(self) -> bool:
        """Have the bundle in use answer; False: there is none. `Updates.proved` is told."""

    def hello(self) -> None:
        """Say to the hub what runs here."""

    def idle(self) -> bool:
        """Whether the agent may end now without losing work."""

    def reach(self, now: float) -> None:
        """Find out whether somebody answers at the broker's address; `Updates.reached` is told."""


class Updates:
    """The update that is on its way, if one is, and the trial that goes on, if one does.

    Args:
        slots: the releases of this board.
        record: what is known of them.
        ways: of the agent around.
        config: agent.toml.
        clock: seconds that only grow.
        command: of the process that does an update.
        limits: of a trial.
        silence_s: of that process, by state.
        at: told `enter` and `leave` of states.
        attempts: starts in a state, without any progress, after which an update is given up.
    """

    def __init__(
        self,
        slots: Slots,
        record: Record,
        ways: Ways,
        config: Path,
        clock: Callable[[], float],
        command: Sequence[str] = (),
        limits: Limits | None = None,
        silence_s: Mapping[str, float] = SILENCE_S,
        at: At = quiet,
        attempts: Callable[[str], int] = most_attempts,
    ) -> None:
        self._slots, self._record, self._ways, self._clock, self._at = slots, record, ways, clock, at
        made = list(command) or [sys.executable, "-m", "edge.slots.job", str(config)]
        self._helper = Helper(made, clock, silence_s)
        self._limits, self._attempts = limits, attempts
        self._trial: Trial | None = None
        self._later, self._next_at, self._switched = 0, -1e9, False

    @property
    def program(self) -> str:
        """The release that runs."""
        return running() or self._slots.current

    @property
    def seen(self) -> int | None:
        """The highest order that was taken note of; None while none is: the hub says it again."""
        kept = self._record.kept
        if self._switched or kept.state in (TRIAL, COMMIT, BACK):
            return None
        return -1 if kept.seen is None else kept.seen.sequence

    @property
    def leaves(self) -> bool:
        """Whether the agent should end now for another release to start."""
        return self._switched and self._ways.idle()

    def start(self) -> None:
        """Look what became of an update when the program ended, and begin a trial if there is one.

        Raises:
            EdgequiltError: a trial cannot begin.
        """
        try:
            settled = self._settled()
        except (EdgequiltError, OSError) as error:  # a full disk must not end an agent that has nothing on trial
            log.warning("the update cannot be ended now: %s", error)
            return
        self._trial = None if settled else self._tried()

    def came(self, message: Program) -> None:
        """The hub names a release.

        Raises:
            EdgequiltError: it cannot be written down; the hub says it again.
        """
        if message.sequence <= (self._record.kept.seen.sequence if self._record.kept.seen else -1):
            return
        self._helper.end()
        self._record.again()
        if self._switched or self._record.kept.state in (TRIAL, COMMIT, BACK):
            return  # the hub says it again at the next hello
        if self._record.kept.state:
            back(self._record, self._slots, "the hub names another release", self._at)
        if self._record.follow(message):
            self._later, self._next_at = 0, -1e9

    def heard(self) -> None:
        """The hub said something to this board."""
        if self._trial is not None:
            self._trial.heard()

    def connected(self, up: bool) -> None:
        """The connection is there, or gone."""
        if self._trial is not None:
            self._trial.connected(up)
        if up:
            self._later, self._next_at = 0, -1e9
            self._tell()

    def reached(self, yes: bool) -> None:
        """Whether somebody answers at the broker's address."""
        if self._trial is not None:
            self._trial.reached(self._clock(), yes)

    def proved(self, wrong: str) -> None:
        """The bundle in use answered."""
        if self._trial is not None:
            self._trial.proved(wrong)

    def look(self) -> float | None:
        """Do what is due; returns when to look again, in seconds.

        Raises:
            VerificationError: the release on trial is not healthy: the agent ends, and its launcher counts.
        """
        if self._trial is not None:
            return self._judged(self._trial)
        try:
            if self._helper.runs:
                self._listen()
            elif self._record.wanted is not None and not self._switched and self._clock() >= self._next_at:
                self._begin()
        except (EdgequiltError, OSError) as error:  # a full disk, say
            log.warning("the update cannot go on now: %s", error)
            self._wait(0.0)
        if self._helper.runs or self._switched:
            return LOOK_EVERY_S
        return None if self._record.wanted is None else max(LOOK_EVERY_S, self._next_at - self._clock())

    def close(self) -> None:
        """End the process; what it did stays."""
        self._helper.end()

    # ------------------------------------------------------------------------------------------- a start

    def _settled(self) -> bool:
        """Look what became of an update when the program ended; whether nothing is on trial."""
        record, slots, kept = self._record, self._slots, self._record.kept
        gone, starts = slots.gave_up
        if kept.state == BACK:
            back(record, slots, kept.failed, self._at)
        elif kept.state == COMMIT:
            commit(record, slots, self._at)
        elif kept.version and gone == kept.version and kept.state in (SWITCH, TRIAL):
            back(record, slots, f"it was not healthy in {starts} starts; {slots.current} runs again", self._at)
        elif kept.state == TRIAL and slots.current != kept.version:
            back(record, slots, f"{slots.current} was put in its place", self._at)
        elif kept.state in (SWITCH, TRIAL) and slots.current == kept.version:
            return False
        return not self._foreign

    @property
    def _foreign(self) -> bool:
        """Whether the trial that goes on is not of an update of ours: an install has put that release here."""
        kept, name = self._record.kept, self._slots.on_trial
        return bool(name) and name == self._slots.current and not (kept.state in OURS and kept.version == name)

    def _tried(self) -> Trial | None:
        if self._foreign:
            log.info("release %s is on trial since it was installed", self._slots.current)
            return Trial(self._clock(), computes=self._ways.prove(), limits=self._limits)
        if self._record.kept.state == SWITCH:  # cut off just before it was written down
            self._record.enter(TRIAL)
        self._at("enter", TRIAL)
        if not self._slots.on_trial:  # nobody counts any more
            self._at("leave", TRIAL)
            commit(self._record, self._slots, self._at)
            return None
        log.info("release %s is on trial", self._slots.current)
        return Trial(self._clock(), computes=self._ways.prove(), limits=self._limits)

    # ------------------------------------------------------------------------------------------- a trial

    def _judged(self, trial: Trial) -> float:
        now, name = self._clock(), self._slots.current
        self._ways.reach(now)
        wrong = trial.unhealthy(now)
        if wrong:
            raise VerificationError(f"expected release {name} to be healthy, but {wrong}; it is begun anew")
        if trial.healthy(now):
            self._at("leave", TRIAL)
            log.info("release %s is healthy", name)
            self._trial = None  # from here on it stays, even where that cannot be written down yet
            try:
                if self._foreign:  # what the record says of an order of the hub stays as it is
                    self._slots.keep()
                else:
                    commit(self._record, self._slots, self._at)
                self._ways.hello()
            except (EdgequiltError, OSError) as error:
                log.warning("the update cannot be ended now: %s", error)
                self._wait(0.0)
        return LOOK_EVERY_S

    # ------------------------------------------------------------------------------------------ a process

    def _begin(self) -> None:
        kept = self._record.kept
        if kept.state in (TRIAL, COMMIT) and self._slots.current == kept.version:
            commit(self._record, self._slots, self._at)
        elif kept.state in (TRIAL, COMMIT, BACK):
            self._give_up(kept.failed)
        elif kept.attempts >= self._attempts(kept.state):
            self._give_up(f"it ended {kept.attempts} times without a word in the state {kept.state}")
        else:
            self._record.note(state=kept.state or FETCH, attempts=kept.attempts + 1)
            self._helper.start()

    def _listen(self) -> None:
        code, order = self._helper.look(), self._record.kept.seen
        said = self._helper.said
        if code is None:
            if order is not None and said.get("of"):
                what = {"release": order.release, "state": said.get("state"), "bytes": said["done"], "of": said["of"]}
                self._ways.show(release_coming=what)
            return
        self._ways.show(release_coming=None)
        self._record.again()
        if code == LATER:
            self._record.note(attempts=0)
            self._wait(float(said.get("after_s", 0.0)))
            log.info("the release is not here yet: %s", said.get("reason"))
            self._ways.show(release_waits=said.get("reason"))
        elif code != 0:
            self._wait(0.0)
        else:
            self._later, self._switched = 0, self._record.kept.state == TRIAL
            self._ways.show(release_waits=None)
            self._tell()

    def _wait(self, at_least_s: float) -> None:
        self._next_at = self._clock() + max(at_least_s, full_jitter(self._later, FIRST_S, LAST_S))
        self._later += 1

    def _give_up(self, reason: str) -> None:
        back(self._record, self._slots, reason, self._at)
        self._tell()

    def _tell(self) -> None:
        """The hub hears of what failed, again at each connection: it may not have heard it."""
        kept = self._record.kept
        if kept.seen is not None and kept.failed_sequence == kept.seen.sequence:
            log.warning("release %s cannot be taken: %s", kept.seen.release[:12], kept.failed)
            self._ways.show(release_failed=kept.failed)
            self._ways.failed(f"{ORDER}{kept.failed_sequence}", kept.failed)
