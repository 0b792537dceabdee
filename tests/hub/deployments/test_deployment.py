"""The table of a deployment, row by row, and what holds whatever happens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.deployments import deployment as d
from hub.rounds.state import Release, Tick
from wire.record import plain, read_record

NEW, OLD, OTHER = "b" * 64, "a" * 64, "c" * 64
BOARDS = ("barn", "coop")


def opened(**changed: Any) -> d.Deployment:
    """A deployment to two boards, promoted by itself."""
    state = d.Deployment(1, NEW, OTHER, OLD, "canary", BOARDS, "auto", 7, 60.0, 1060.0)
    return replace(state, **changed)


TRYING = opened(phase="trying", serving=BOARDS, round=4, sentence="2 of 2 boards serve it")
BY_HAND = replace(TRYING, promote="manual")
ROWS: dict[str, tuple[d.Deployment, object, str, tuple[d.Action, ...]]] = {
    "opened": (opened(), d.Opened(), "spreading", (d.Offer("barn"), d.Offer("coop"))),
    "one serves it": (opened(), d.Serves("barn"), "spreading", ()),
    "the last one serves it": (opened(serving=("barn",)), d.Serves("coop"), "trying", (d.Try(),)),
    "a stranger serves it": (opened(), d.Serves("mill"), "spreading", ()),
    "twice the same": (opened(serving=("barn",)), d.Serves("barn"), "spreading", ()),
    "before the deadline": (opened(), Tick(1059.0), "spreading", ()),
    "the deadline, one serves it": (opened(serving=("barn",)), Tick(1060.0), "trying", (d.Try(),)),
    "the deadline, none serves it": (opened(), Tick(1060.0), "rolled back", (Release(OLD),)),
    "judged too early": (opened(), d.Judged(True, "better"), "spreading", ()),
    "not worse": (TRYING, d.Judged(True, "better"), "promoted", (Release(NEW),)),
    "not worse, by hand": (BY_HAND, d.Judged(True, "better"), "waiting", ()),
    "worse": (TRYING, d.Judged(False, "worse"), "rolled back", (Release(OLD),)),
    "worse, by hand": (BY_HAND, d.Judged(False, "worse"), "rolled back", (Release(OLD),)),
    "nobody could judge": (TRYING, d.Judged(False, "no rows", False), "rolled back", (Release(OLD),)),
    "nobody could judge, by hand": (BY_HAND, d.Judged(False, "no rows", False), "waiting", ()),
    "promoted by hand": (replace(BY_HAND, phase="waiting"), d.Promote(), "promoted", (Release(NEW),)),
    "promoted in a hurry": (opened(), d.Promote(), "promoted", (Release(NEW),)),
    "back by hand": (TRYING, d.Back(), "rolled back", (Release(OLD),)),
    "something else was released": (TRYING, d.Superseded("version 9 was released"), "superseded", ()),
    "promoted again": (replace(TRYING, phase="promoted"), d.Promote(), "promoted", ()),
    "back after the end": (replace(TRYING, phase="promoted"), d.Back(), "promoted", ()),
    "a late word": (TRYING, d.Serves("barn"), "trying", ()),
}


@pytest.mark.parametrize(("state", "event", "phase", "actions"), ROWS.values(), ids=ROWS.keys())
def test_every_row_of_the_table(state: d.Deployment, event: object, phase: str, actions: tuple[d.Action, ...]) -> None:
    """An event leads to the phase and the actions of its row."""
    after, found = d.step(state, event)

    assert (after.phase, found) == (phase, actions)


def test_the_sentence_tells_the_story() -> None:
    """Who does not serve it, and what was found, is in the sentence of the end."""
    state, _ = d.step(opened(serving=("barn",)), Tick(2000.0))
    state, _ = d.step(state, d.Judged(False, "worse beyond the noise"))

    assert state.sentence == "1 of 2 boards serve it (not coop); worse beyond the noise"


EVENTS = st.one_of(
    st.just(d.Opened()),
    st.builds(d.Serves, st.sampled_from((*BOARDS, "mill"))),
    st.builds(Tick, st.sampled_from((1000.0, 1060.0))),
    st.builds(d.Judged, st.booleans(), st.just("found"), st.booleans()),
    st.just(d.Promote()),
    st.just(d.Back()),
    st.just(d.Superseded("another")),
)


@given(st.sampled_from(("auto", "manual")), st.lists(EVENTS, max_size=12))
def test_whatever_happens(promote: Any, events: list[object]) -> None:
    """At most one version is released and none after the end; a state read back from JSON is the same state."""
    state, releases = opened(promote=promote), list[d.Action]()
    for event in events:
        before = state
        state, actions = d.step(state, event)
        assert before.is_open or (state == before and not actions)
        releases += [a for a in actions if isinstance(a, Release)]
        assert read_record(d.Deployment, plain(state), "it") == state
    assert len(releases) == (state.phase in ("promoted", "rolled back"))
    assert all(a == Release(NEW if state.phase == "promoted" else OLD) for a in releases)
