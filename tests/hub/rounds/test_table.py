"""The table of a round, row by row, and what no order of events can do to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.rounds import state as r
from hub.rounds import table as rounds
from hub.rounds.refusal import refusal, seated
from hub.rounds.state import Round, Seat
from hub.rounds.table import step
from wire.record import plain, read_record

BASE, MADE, USED = "a" * 64, "b" * 64, "c" * 64
DEVICES = ("barn", "coop", "mill")


def opened(kind: Any = "train", **changed: Any) -> Round:
    """A round of three devices, two of which must answer by second 100."""
    values: dict[str, Any] = {
        "number": 7,
        "kind": kind,
        "versions": (BASE,),
        "settings": {"steps": 8},
        "quorum": 2,
        "deadline_s": 50.0,
        "deadline_at_s": 100.0,
        "candidate": kind == "statistics",
        "seats": tuple(Seat(d) for d in DEVICES),
        **changed,
    }
    return Round(**values)


def after(state: Round, *events: object) -> tuple[Round, tuple[r.Action, ...]]:
    """The state after some events, and the actions of the last one."""
    actions: tuple[r.Action, ...] = ()
    for event in events:
        state, actions = step(state, event)
    return state, actions


ALL_IN = tuple(r.Arrived(d) for d in DEVICES)


def test_every_device_is_asked() -> None:
    """A round begins by asking every device for its own job."""
    state, actions = after(opened(), r.Opened())

    assert actions == tuple(r.Ask(d, gate=False) for d in DEVICES)
    assert state.phase == "collecting"


def test_a_version_is_made_when_all_have_answered() -> None:
    """The last update, and no earlier one, leads to making the version."""
    state, actions = after(opened(), *ALL_IN[:2])
    assert (state.phase, actions) == ("collecting", ())

    state, actions = after(state, ALL_IN[2])
    assert (state.phase, actions) == ("making", (r.Make(),))


def test_the_deadline_makes_do_with_a_quorum() -> None:
    """At the deadline two of three are enough; the third is told that nobody waits."""
    state, actions = after(opened(), *ALL_IN[:2], r.Tick(99.9), r.Tick(100.0))

    assert state.phase == "making"
    assert actions == (r.Withdraw("mill", gate=False), r.Make())
    assert state.seats[2] == Seat("mill", "late", "the deadline passed")


def test_the_deadline_without_a_quorum_ends_the_round() -> None:
    """At the deadline one of three is not enough; the sentence says who is missing and why."""
    state, actions = after(opened(), r.Arrived("coop"), r.Gone("barn", "no rows"), r.Tick(100.0))

    assert state.phase == "failed"
    assert actions == (r.Withdraw("mill", gate=False),)
    assert state.sentence == ("1 of 3 devices answered, 2 are needed (barn: no rows; mill: the deadline passed)")


def test_devices_that_fail_are_not_waited_for() -> None:
    """When the last device that was waited for fails, the round goes on at once with the quorum it has."""
    state, actions = after(opened(), *ALL_IN[:2], r.Gone("mill", "its disk is full"))

    assert (state.phase, actions) == ("making", (r.Make(),))


def test_an_evaluation_ends_with_its_scores() -> None:
    """A round of evaluation makes no version."""
    state, actions = after(opened("evaluate"), *ALL_IN)

    assert (state.phase, actions) == ("complete", ())
    assert state.sentence == "3 of 3 devices answered"


def test_a_working_version_is_not_released() -> None:
    """A round of training moves the work on; what is in use stays."""
    state, actions = after(opened(), *ALL_IN, r.Made(MADE, USED, DEVICES, 60.0))

    assert (state.phase, state.released, actions) == ("complete", False, ())
    assert state.version == MADE


def test_the_first_version_with_a_head_is_released() -> None:
    """With nothing in use there is nothing to compare with; but a version without a head serves nobody."""
    state, actions = after(opened("statistics"), *ALL_IN, r.Made(MADE, "", DEVICES, 60.0))
    assert (state.phase, state.released, actions) == ("complete", True, (r.Release(MADE),))

    state, actions = after(opened(), *ALL_IN, r.Made(MADE, "", DEVICES, 60.0, has_head=False))
    assert (state.phase, state.released, actions) == ("complete", False, ())


def gating() -> Round:
    """A round of statistics whose version is being judged by two devices until second 110."""
    state, actions = after(opened("statistics"), *ALL_IN, r.Made(MADE, USED, DEVICES[:2], 60.0))
    assert actions == (r.Ask("barn", gate=True), r.Ask("coop", gate=True))
    assert state.deadline_at_s == 110.0
    return state


@pytest.mark.parametrize(
    ("released", "last"), [(True, r.Release(MADE)), (False, r.Retreat(USED))], ids=["not worse", "worse"]
)
def test_the_gate_decides(released: bool, last: r.Action) -> None:
    """A candidate that is not worse is released; after a worse one work goes on from the version in use."""
    scores = (r.Arrived("barn", gate=True), r.Arrived("coop", gate=True))
    state, actions = after(gating(), *scores)
    assert (state.phase, actions) == ("judging", (r.Judge(),))

    state, actions = after(state, r.Judged(released, 0.7, 0.6, "because"))
    assert (state.phase, state.released, actions) == ("complete", released, (last,))
    assert (state.candidate_accuracy, state.parent_accuracy) == (0.7, 0.6)
    end = "released" if released else "the version in use stays in use"
    assert state.sentence == f"3 of 3 devices answered; because; {end}"


def test_the_gate_has_a_deadline_of_its_own() -> None:
    """A judge that never answers holds nobody up: at the deadline the gate decides with what it has."""
    state, actions = after(gating(), r.Arrived("coop", gate=True), r.Tick(109.0), r.Tick(110.0))

    assert state.phase == "judging"
    assert actions == (r.Withdraw("barn", gate=True), r.Judge())


def test_without_a_judge_the_gate_decides_at_once() -> None:
    """If no device can evaluate, the gate is asked with nothing, and will not release."""
    state, actions = after(opened("statistics"), *ALL_IN, r.Made(MADE, USED, (), 60.0))

    assert (state.phase, actions) == ("judging", (r.Judge(),))


STRANGE = {
    "an update twice": (after(opened(), ALL_IN[0])[0], ALL_IN[0]),
    "a device that is not in the round": (opened(), r.Arrived("stranger")),
    "scores before there is a gate": (opened(), r.Arrived("barn", gate=True)),
    "an update while the gate waits for scores": (gating(), r.Arrived("barn")),
    "a failure of a job that is over": (gating(), r.Gone("barn", "too late")),
    "a failure after its update": (after(opened(), ALL_IN[0])[0], r.Gone("barn", "I forgot")),
    "an update after the end": (after(opened(), r.Tick(100.0))[0], ALL_IN[0]),
    "a decision that nobody asked for": (opened(), r.Judged(True, None, None, "")),
    "a version that nobody asked for": (opened(), r.Made(MADE, USED, (), 1.0)),
}


@pytest.mark.parametrize(("state", "event"), STRANGE.values(), ids=STRANGE.keys())
def test_late_double_and_strange_events_change_nothing(state: Round, event: object) -> None:
    """What does not belong to the phase leaves the round as it was and causes nothing."""
    assert step(state, event) == (state, ())


@pytest.mark.parametrize("state", [opened(), gating()], ids=["collecting", "gating"])
def test_a_round_can_be_stopped(state: Round) -> None:
    """Stopped by hand, a round fails with that sentence and withdraws every job that is out."""
    stopped, actions = step(state, r.Stopped("stopped by hand"))

    waiting = [s.device for s in seated(state) if s.state == "waiting"]
    assert (stopped.phase, stopped.sentence) == ("failed", "stopped by hand")
    assert [a.device for a in actions if isinstance(a, r.Withdraw)] == waiting


@pytest.mark.parametrize(
    "state",
    [opened(), after(opened(), ALL_IN[1])[0], after(opened(), *ALL_IN)[0], gating()],
    ids=["fresh", "one in", "making", "gating"],
)
def test_a_restart_repeats_what_is_outstanding(state: Round) -> None:
    """A state that went through the ledger resumes with what its last event left open."""
    restored = read_record(Round, json.loads(json.dumps(plain(state))), "a round")

    assert restored == state
    waiting = {s.device for s in seated(state) if s.state == "waiting"}
    if state.phase in ("collecting", "gating"):
        assert {a.device for a in rounds.resume(restored) if isinstance(a, r.Ask)} == waiting
    else:
        assert rounds.resume(restored) == (r.Make(),)


def test_a_tick_tries_again_what_could_not_be_done() -> None:
    """While a version cannot be kept (a full disk), every tick asks for it again."""
    making, _ = after(opened(), *ALL_IN)

    assert step(making, r.Tick(61.0)) == (making, (r.Make(),))


def test_a_version_that_cannot_be_made_ends_the_round() -> None:
    """The reason why no version came of a round is its sentence."""
    state, actions = after(opened(), *ALL_IN, r.Unmade("expected rows, found none"))

    assert (state.phase, state.sentence, actions) == ("failed", "expected rows, found none", ())


REFUSED = {
    "a round that never was": (None, "r9-train-barn", "barn", "adapter", BASE, "an update of a round of this hub"),
    "somebody else's job": (opened(), "r7-train-coop", "barn", "adapter", BASE, "the job that round 7 gave barn"),
    "another kind": (opened(), "r7-train-barn", "barn", "scores", BASE, "an update of kind adapter"),
    "another base": (opened(), "r7-train-barn", "barn", "adapter", MADE, "started from version aaaaaaaaaaaa"),
    "a round that is over": (
        after(opened(), r.Tick(100.0))[0],
        "r7-train-barn",
        "barn",
        "adapter",
        BASE,
        "round 7 no longer waits for r7-train-barn",
    ),
    "not in the round": (opened(), "r7-train-hill", "hill", "adapter", BASE, "round 7 does not wait for hill"),
    "scores of the wrong pair": (gating(), "r7-gate-barn", "barn", "scores", BASE, "started from version bbbb"),
}


@pytest.mark.parametrize(("state", "job", "device", "kind", "base", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_count_is_refused_with_words(
    state: Round | None, job: str, device: str, kind: Any, base: str, words: str
) -> None:
    """Every reason to refuse an update says what was expected, what was found, and that it may be dropped."""
    sentence = refusal(state, job, device, kind, base)

    assert words in sentence
    assert sentence.endswith("; drop it")


@pytest.mark.parametrize(
    ("state", "job", "kind", "base"),
    [
        (opened(), "r7-train-barn", "adapter", BASE),
        (opened("statistics"), "r7-statistics-barn", "statistics", BASE),
        (gating(), "r7-gate-barn", "scores", MADE),
        (after(opened(), r.Gone("barn", "?"))[0], "r7-train-barn", "adapter", BASE),
    ],
    ids=["train", "statistics", "gate", "after it said that it failed"],
)
def test_what_was_asked_for_is_taken(state: Round, job: str, kind: Any, base: str) -> None:
    """The update that a job asked for has nothing against it."""
    assert refusal(state, job, "barn", kind, base) == ""


EVENTS = st.lists(
    st.one_of(
        st.builds(r.Arrived, st.sampled_from(DEVICES), st.booleans()),
        st.builds(r.Gone, st.sampled_from(DEVICES), st.just("broken"), st.booleans()),
        st.builds(r.Tick, st.floats(0, 200)),
        st.builds(r.Made, st.just(MADE), st.sampled_from(["", USED]), st.just(DEVICES), st.just(60.0)),
        st.builds(r.Judged, st.booleans(), st.just(0.5), st.just(0.5), st.just("because")),
        st.just(r.Unmade("no")),
        st.just(r.Stopped("stop")),
    ),
    max_size=30,
)


@given(kind=st.sampled_from(["train", "statistics", "evaluate"]), events=EVENTS)
@settings(max_examples=300, deadline=None)
def test_no_order_of_events_breaks_a_round(kind: Any, events: list[Any]) -> None:
    """In any history a version is made at most once for the updates of a quorum, and nothing follows the end."""
    state, made, ended = opened(kind), 0, 0
    for event in events:
        before = state
        state, actions = step(state, event)
        made += r.Make() in actions and not isinstance(event, r.Tick)
        ended += before.is_open and not state.is_open
        if not before.is_open:
            assert (state, actions) == (before, ())
        if state.phase in ("making", "gating", "judging") and state.kind != "evaluate":
            assert sum(s.state == "arrived" for s in state.seats) >= state.quorum
        assert state.phase != "making" or kind != "evaluate"
    assert made <= 1
    assert ended <= 1
