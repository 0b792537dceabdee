"""The table of rounds that ask for more than they need, make several versions, or make them of a buffer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub.making.recipe import Recipe
from hub.rounds import state as r
from hub.rounds import table as rounds
from hub.rounds.modes import mode_of
from hub.rounds.names import job_id
from hub.rounds.refusal import missed, puts_off, refusal
from hub.rounds.state import Round, Seat
from tests.hub.rounds.test_table import BASE, DEVICES, MADE, USED, after, opened
from wire.record import plain, read_record

SECOND = "d" * 64


def buffered(**changed: Any) -> Round:
    """A round without end that makes a version of every two updates; at most one version may be missed."""
    return opened(**{"mode": "buffered", "goal": 2, "laps": 0, "staleness": 1, **changed})


def laps(**changed: Any) -> Round:
    """A synchronous round of three versions."""
    return opened(**{"laps": 3, **changed})


def made(version: str, now_s: float = 60.0, **more: Any) -> r.Made:
    """A version without a head was made; nothing is in use."""
    return r.Made(version, "", (), now_s, has_head=False, **more)


def arrived(*names: str) -> tuple[r.Arrived, ...]:
    """Their updates came."""
    return tuple(r.Arrived(name) for name in names)


OVER = opened(goal=2)
SECOND_LAP, _ = after(laps(), *arrived(*DEVICES), made(MADE))
BUFFERED_ON, _ = after(buffered(), *arrived("barn", "coop"), made(MADE))  # mill is still at work on its first job


def test_enough_answers_dismiss_the_rest() -> None:
    """Three are asked for two answers; at the second one the third is told that it need not go on."""
    state, actions = after(OVER, *arrived("mill", "barn"))

    assert (state.phase, actions) == ("making", (r.Withdraw("coop", gate=False), r.Make()))
    assert state.seats[1] == Seat("coop", "spare", "enough others answered")
    assert state.sentence == "2 of 3 devices answered"


def test_a_lap_follows_a_lap() -> None:
    """Every lap asks everybody anew, from the version that the last one made, until all versions are there."""
    state, actions = after(laps(), *arrived(*DEVICES), made(MADE))
    assert (state.phase, state.lap, state.deadline_at_s) == ("collecting", 1, 110.0)
    assert actions == tuple(r.Ask(d, gate=False, turn=2) for d in DEVICES)
    assert {s.base for s in state.seats} == {state.start} == {MADE}

    state, actions = after(state, *arrived(*DEVICES), made(SECOND), *arrived(*DEVICES), made(USED))
    assert (state.phase, actions, state.version) == ("complete", (), USED)
    assert state.sentence == "3 versions; 3 of 3 devices answered; not a candidate for release"


def test_a_late_board_starts_afresh_in_the_next_lap() -> None:
    """What did not answer by a lap's deadline loses its job, and is asked again from the new version."""
    state, actions = after(laps(), *arrived("barn", "coop"), r.Tick(100.0))
    assert actions == (r.Withdraw("mill", gate=False), r.Make())

    state, actions = after(state, made(MADE))
    assert r.Ask("mill", gate=False, turn=2) in actions


def test_a_buffer_makes_a_version_while_others_go_on() -> None:
    """Two updates make a version; who computes is left alone, who delivered starts from the new one."""
    state, actions = after(buffered(), *arrived("barn", "coop"))
    assert (state.phase, actions) == ("making", (r.Make(),))

    state, actions = after(state, made(MADE))
    assert actions == (r.Ask("barn", gate=False, turn=2), r.Ask("coop", gate=False, turn=2))
    assert state.seats[2] == Seat("mill")
    assert [missed(state, d) for d in DEVICES] == [0, 0, 1]


def test_a_buffer_of_one_is_asynchronous() -> None:
    """With a buffer of one every update makes a version at once."""
    state, actions = after(buffered(goal=1, quorum=1), *arrived("mill"))
    assert (state.phase, actions) == ("making", (r.Make(),))

    state, actions = after(state, made(MADE))
    assert actions == (r.Ask("mill", gate=False, turn=2),)


def test_what_missed_too_much_is_asked_afresh() -> None:
    """A board that missed more versions than may be missed loses its job and starts from the newest version."""
    state, actions = after(BUFFERED_ON, *arrived("barn", "coop"), made(SECOND))

    assert r.Withdraw("mill", gate=False, turn=1) in actions
    assert r.Ask("mill", gate=False, turn=3) in actions
    assert missed(state, "mill") == 0
    sentence = refusal(state, "r7-train-mill", "mill", "adapter", BASE)
    assert sentence == (
        "round 7 moved on without r7-train-mill: it made 2 versions, and at most 1 may be missed; a newer job was "
        "sent; drop it"
    )


def test_a_lap_may_ask_others() -> None:
    """The next lap asks whom the event names, besides those that still compute; others leave the round."""
    state, actions = after(buffered(), *arrived("barn", "coop"), made(MADE, devices=("coop", "hill")))

    assert actions == (r.Ask("coop", gate=False, turn=2), r.Ask("hill", gate=False, turn=2))
    assert [s.device for s in state.seats] == ["coop", "hill", "mill"]
    assert "made 1 version and does not wait for this device" in refusal(
        state, "r7-train-barn", "barn", "adapter", BASE
    )


@pytest.mark.parametrize("state", [laps(laps=0), buffered()], ids=["laps", "buffered"])
def test_a_continuous_round_outlives_a_deadline(state: Round) -> None:
    """Without a quorum at the deadline a continuous round waits on; what failed gets another job."""
    state, actions = after(state, r.Gone("barn", "no rows"), r.Gone("coop", "too warm"), r.Tick(99.0))
    assert (state.phase, actions) == ("collecting", ())

    state, actions = after(state, r.Tick(100.0))
    assert (state.phase, state.deadline_at_s) == ("collecting", 150.0)
    assert actions == (r.Ask("barn", gate=False, turn=2), r.Ask("coop", gate=False, turn=2))
    assert state.seats[2] == Seat("mill")


def test_a_stop_makes_a_last_version() -> None:
    """What a stopped continuous round has receipted still makes a version; then the round is over."""
    state, actions = after(buffered(quorum=1), *arrived("barn"), r.Stopped("stopped by hand"))
    assert actions == (r.Withdraw("coop", gate=False), r.Withdraw("mill", gate=False), r.Make())

    state, actions = after(state, made(MADE))
    assert (state.phase, actions) == ("complete", ())
    assert state.sentence == "stopped by hand; 1 of 3 devices answered; not a candidate for release"


def test_a_stop_between_two_versions() -> None:
    """Stopped before anything new has come, a round that made versions is complete, and one that made none failed."""
    state, _ = after(BUFFERED_ON, r.Stopped("stopped by hand"))
    assert (state.phase, state.sentence) == ("complete", "1 version; stopped by hand")

    state, _ = after(buffered(), r.Stopped("stopped by hand"))
    assert (state.phase, state.sentence) == ("failed", "stopped by hand")


def test_a_stop_while_a_version_cannot_be_kept() -> None:
    """While a disk is full the version of a stopped round is still tried; a second stop does without it."""
    making, _ = after(buffered(), *arrived("barn", "coop"))
    assert puts_off(making)
    state, actions = after(making, r.Stopped("stopped by hand"))
    assert (state.phase, actions) == ("making", (r.Withdraw("mill", gate=False),))
    assert not puts_off(state)

    assert after(state, r.Tick(61.0))[1] == (r.Make(),)
    assert after(state, made(MADE))[0].phase == "complete"
    assert after(state, r.Stopped("enough"))[0].phase == "failed"


SPARE, _ = after(OVER, *arrived("mill", "barn"))
MAKING, _ = after(buffered(), *arrived("barn", "coop"))
ENDED, _ = after(BUFFERED_ON, r.Stopped("stopped by hand"))
REFUSED = {
    "late: spare": (SPARE, "r7-train-coop", "coop", "adapter", BASE, "had the 2 updates that it asked for before"),
    "late: an earlier lap": (SECOND_LAP, "r7-train-mill", "mill", "adapter", BASE, "it made 1 version; a newer job"),
    "late: after the end": (ENDED, "r7-train-mill", "mill", "adapter", BASE, "no longer waits for r7-train-mill"),
    "double: another update of a job that counts": (
        after(BUFFERED_ON, *arrived("barn"))[0],
        "r7.2-train-barn",
        "barn",
        "adapter",
        MADE,
        "does not wait for barn",
    ),
    "strange: a job never given": (BUFFERED_ON, "r7.9-train-mill", "mill", "adapter", BASE, "gave mill, found r7.9"),
    "strange: another round's": (BUFFERED_ON, "r6-train-mill", "mill", "adapter", BASE, "gave mill, found r6"),
    "strange: nonsense": (BUFFERED_ON, "r7.x-train-mill", "mill", "adapter", BASE, "gave mill, found r7.x"),
    "strange: a leading zero": (BUFFERED_ON, "r7.01-train-barn", "barn", "adapter", BASE, "gave barn, found r7.01"),
    "strange: somebody else's": (BUFFERED_ON, "r7.2-train-coop", "barn", "adapter", MADE, "gave barn, found r7.2"),
    "strange: device": (BUFFERED_ON, "r7-train-hill", "hill", "adapter", BASE, "does not wait for"),
    "strange: kind": (BUFFERED_ON, "r7-train-mill", "mill", "statistics", BASE, "of kind adapter for r7-train-mill"),
    "strange: base": (BUFFERED_ON, "r7-train-mill", "mill", "adapter", MADE, "from version aaaaaaaaaaaa, found one"),
    "strange: an old base": (BUFFERED_ON, "r7.2-train-barn", "barn", "adapter", BASE, "from version bbbbbbbbbbbb"),
}


@pytest.mark.parametrize(("state", "job", "device", "kind", "base", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_count_is_refused_with_words(
    state: Round, job: str, device: str, kind: Any, base: str, words: str
) -> None:
    """Late, double and strange updates each have an answer that says why they do not count."""
    sentence = refusal(state, job, device, kind, base)

    assert words in sentence
    assert sentence.endswith("; drop it")


COUNTS = {
    "the first job, one version later": (BUFFERED_ON, "r7-train-mill", "mill", BASE),
    "the newest job": (BUFFERED_ON, "r7.2-train-barn", "barn", MADE),
    "while a version is made": (MAKING, "r7-train-mill", "mill", BASE),
    "the second lap's": (SECOND_LAP, "r7.2-train-mill", "mill", MADE),
    "after it said that it failed": (after(SECOND_LAP, r.Gone("mill", "?"))[0], "r7.2-train-mill", "mill", MADE),
}


@pytest.mark.parametrize(("state", "job", "device", "base"), COUNTS.values(), ids=COUNTS.keys())
def test_what_was_asked_for_is_taken(state: Round, job: str, device: str, base: str) -> None:
    """The update of a job that is out has nothing against it, however many versions it missed meanwhile."""
    assert refusal(state, job, device, "adapter", base) == ""


@pytest.mark.parametrize("state", [BUFFERED_ON, SECOND_LAP, MAKING, OVER], ids=["on", "lap", "making", "over"])
def test_a_restart_repeats_what_is_outstanding(state: Round) -> None:
    """A state that went through the ledger is the same, and repeats the very askings that are out."""
    restored = read_record(Round, json.loads(json.dumps(plain(state))), "a round")

    assert restored == state
    out = {(s.device, s.turn) for s in state.seats if s.state == "waiting"}
    found = rounds.resume(restored)
    assert found == (r.Make(),) or {(a.device, a.turn) for a in found if isinstance(a, r.Ask)} == out


def test_a_round_from_before_there_were_modes() -> None:
    """What an older hub kept of a round reads as a synchronous round of one version."""
    kept = plain(opened())
    new = ("mode", "goal", "laps", "lap", "turn", "staleness", "selection", "over")
    old = {k: v for k, v in kept.items() if k not in new}
    old["seats"] = [{k: s[k] for k in ("device", "state", "reason")} for s in kept["seats"]]

    assert read_record(Round, json.loads(json.dumps(old)), "a round") == opened()


class History(RuleBasedStateMachine):
    """A round whose devices send any of their jobs at any time, fail, and are stopped, as its hub would see it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s, self.versions = 0.0, 0
        self.asked = {d: [(job_id(7, "train", d), BASE)] for d in DEVICES}  # job and base
        self.counted: dict[str, int] = {}  # job that was receipted, and the lap whose version counts it
        self.state = laps()

    @initialize(
        state=st.sampled_from([buffered(), buffered(goal=1, quorum=1), buffered(laps=3), laps(), laps(laps=0), OVER]),
        staleness=st.integers(0, 3),
    )
    def begin(self, state: Round, staleness: int) -> None:
        self.state = replace(state, staleness=staleness)

    def tell(self, event: object) -> None:
        before = self.state
        self.state, actions = rounds.step(before, event)
        for seat in self.state.seats:
            job = job_id(7, "train", seat.device, seat.turn)
            if r.Ask(seat.device, False, seat.turn) in actions:
                assert job not in {name for name, _ in self.asked[seat.device]}  # every asking is a job of its own
                self.asked[seat.device].append((job, seat.base))
        if self.state.phase == "making" and before.phase == "collecting":
            assert sum(lap == self.state.lap for lap in self.counted.values()) >= self.state.quorum
        if not before.is_open:
            assert (self.state, actions) == (before, ())

    @rule(device=st.sampled_from(DEVICES), back=st.integers(0, 4))
    def send(self, device: str, back: int) -> None:
        jobs = self.asked[device]
        job, base = jobs[max(0, len(jobs) - 1 - back)]
        state = self.state
        if job not in self.counted and not refusal(state, job, device, "adapter", base) and not puts_off(state):
            assert missed(state, device) <= (state.staleness if state.mode == "buffered" else 0)
            self.counted[job] = state.lap
            self.tell(r.Arrived(device))

    @rule(device=st.sampled_from(DEVICES))
    def fail(self, device: str) -> None:
        self.tell(r.Gone(device, "?"))

    @rule(seconds=st.integers(1, 80))
    def wait(self, seconds: int) -> None:
        self.now_s += seconds
        self.tell(r.Tick(self.now_s))

    @precondition(lambda self: self.state.phase == "making")
    @rule()
    def make(self) -> None:
        self.versions += 1
        self.tell(made(f"{self.versions:064x}", self.now_s))

    @rule(sure=st.integers(0, 9))
    def stop(self, sure: int) -> None:
        if sure == 0:
            self.tell(r.Stopped("?"))

    @invariant()
    def each_update_is_in_one_version_or_in_the_lap_that_is_worked_on(self) -> None:
        assert set(self.counted.values()) <= {*range(self.versions), self.state.lap}
        assert self.state.lap == self.versions
        arrived = sum(s.state == "arrived" for s in self.state.seats)
        if self.state.phase in ("collecting", "making"):
            assert arrived == sum(lap == self.state.lap for lap in self.counted.values())


History.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestHistory = History.TestCase  # no history of a round loses an update, counts one twice, or one that missed too much


def asking(
    kind: Any = "train", devices: int = 5, wanted: int = 5, method: str = "stacking", **told: Any
) -> dict[str, Any]:
    """The mode of a round of five devices, half of which are a quorum."""
    return mode_of(told, kind, 0.5, devices, wanted, {}, Recipe())


def test_what_people_ask_for_becomes_a_mode() -> None:
    """A quorum is a share of the answers that are wanted; a buffered round goes on until it is stopped."""
    assert asking() == {"laps": 1, "goal": 0, "quorum": 3}
    assert asking(wanted=4, laps=7) == {"laps": 7, "goal": 4, "quorum": 2}
    assert asking(mode="buffered", buffer=3) == {
        "mode": "buffered",
        "goal": 3,
        "laps": 0,
        "staleness": 8,
        "quorum": 2,
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a buffer above the devices": ({"mode": "buffered", "buffer": 6}, "at most the 5 devices that are asked, found 6"),
    "an empty buffer": ({"mode": "buffered", "buffer": 0}, "expected buffer of 1 to"),
    "a buffer without its mode": ({"buffer": 2}, "buffer with a buffered round only"),
    "statistics in laps": ({"kind": "statistics", "laps": 2}, "expected a round of training to make several versions"),
    "scores from a buffer": ({"kind": "evaluate", "mode": "buffered"}, "expected a round of training"),
    "over-selection of a buffer": ({"mode": "buffered", "over": 0.5}, "leave out --over"),
    "another mode": ({"mode": "serial"}, "expected synchronous or buffered as a mode, found 'serial'"),
    "a negative number": ({"laps": -1}, "expected laps of 0 to"),
}


@pytest.mark.parametrize(("told", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_go_together_is_refused(told: dict[str, Any], words: str) -> None:
    """A mode that cannot be is refused with a sentence before anything is opened."""
    from console.errors import UsageError

    with pytest.raises(UsageError, match=words):
        asking(**told)
