"""Seats of split jobs: what the table does with halves and with tails that go, and what no order of events can do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.rounds import state as r
from hub.rounds import table as rounds
from hub.rounds.halves import MOVES
from hub.rounds.refusal import is_spoiled, refusal
from hub.rounds.state import Round, Seat
from hub.rounds.table import step
from tests.hub.rounds.test_table import BASE, after, opened
from wire.record import plain, read_record

PART = "d" * 64


def split(**changed: Any) -> Round:
    """Barn and coop have fronts, their tails are one's and two's; mill has the whole model."""
    seats = (
        Seat("barn", bundle=PART, front=True, tail="one"),
        Seat("coop", bundle=PART, front=True, tail="two"),
        Seat("mill"),
    )
    return opened(seats=seats, **changed)


def lost(tail: str, device: str = "", others: dict[str, int] | None = None, now_s: float = 60.0) -> r.Lost:
    """A tail that is gone, for all its boards or for one."""
    return r.Lost(tail, f"{tail} is gone", {"two": 1} if others is None else others, now_s, device)


def halves(device: str) -> tuple[r.Arrived, r.Arrived]:
    """Both halves of what a board learned, the front's first."""
    return r.Arrived(device, half="front"), r.Arrived(device, half="tail")


def test_both_halves_are_asked_for() -> None:
    """The tail before its board, which will call it; whole boards once."""
    _, actions = after(split(), r.Opened())

    assert actions == (
        r.Ask("one", False, 1, "barn"),
        r.Ask("barn", False),
        r.Ask("two", False, 1, "coop"),
        r.Ask("coop", False),
        r.Ask("mill", False),
    )


@pytest.mark.parametrize("turned", [False, True], ids=["the front first", "the tail first"])
def test_a_board_has_arrived_with_both_halves(turned: bool) -> None:
    """In either order; after one of them the other device alone is asked again."""
    first, second = halves("barn")[::-1] if turned else halves("barn")
    state, actions = after(split(), first)
    assert (state.seats[0].state, state.seats[0].halves, actions) == ("waiting", (first.half,), ())
    waits = r.Ask("barn", False) if turned else r.Ask("one", False, 1, "barn")
    assert waits in rounds.resume(state)
    assert len(rounds.resume(state)) == 4

    state, _ = after(state, second)
    assert (state.seats[0].state, state.seats[0].halves) == ("arrived", ("front", "tail"))


def test_the_last_half_makes_the_version() -> None:
    """Not before: three boards have sent something, and one half is still to come."""
    state, actions = after(split(), *halves("barn"), r.Arrived("mill"), r.Arrived("coop", half="tail"))
    assert (state.phase, actions) == ("collecting", ())

    state, actions = after(state, r.Arrived("coop", half="front"))
    assert (state.phase, state.sentence, actions) == ("making", "3 of 3 devices answered", (r.Make(),))


def test_a_lost_tails_boards_are_asked_again_with_another() -> None:
    """They get another job and their full time; the old jobs are called off, those of other tails go on."""
    state, actions = after(split(), lost("one"))

    assert actions == (
        r.Withdraw("one", False, 1, "barn"),
        r.Withdraw("barn", False),
        r.Ask("two", False, 2, "barn"),
        r.Ask("barn", False, 2),
    )
    assert state.seats[0] == Seat("barn", turn=2, base=BASE, bundle=PART, front=True, tail="two", tried=("one",))
    assert state.seats[1:] == split().seats[1:]
    assert (state.turn, state.deadline_at_s) == (2, 110.0)


def test_boards_go_to_the_tail_that_has_least() -> None:
    """One after the other, and each is counted; the one that a board did not try yet comes first."""
    seats = tuple(Seat(f"b{i}", front=True, bundle=PART, tail="one", tried=("three",) * (i == 4)) for i in range(5))
    state, _ = after(opened(seats=seats), lost("one", others={"two": 2, "three": 0}))

    assert [seat.tail for seat in state.seats] == ["three", "three", "three", "two", "two"]


def test_without_another_tail_the_round_goes_on_without_the_board() -> None:
    """At once where nobody else is waited for, with the reason."""
    state, _ = after(split(), *halves("coop"), r.Arrived("mill"))
    state, actions = after(state, lost("one", others={}))

    assert (state.phase, state.seats[0].state) == ("making", "failed")
    assert state.seats[0].reason == "no tail is left for it: one is gone"
    assert actions == (r.Withdraw("one", False, 1, "barn"), r.Withdraw("barn", False), r.Make())


def test_a_board_is_moved_so_often_and_no_more() -> None:
    """Where one tail is all there is, it is tried again a few times."""
    state, turns = split(), 0
    while state.seats[0].state == "waiting":
        state, _ = after(state, lost(state.seats[0].tail, "barn", {"one": 0}))
        turns += 1

    assert turns == MOVES + 1
    assert state.seats[1].state == "waiting"


def test_a_front_that_came_counts_without_its_tail() -> None:
    """When its tail is gone the board is done; what the tail sends after all is taken while the round collects."""
    state, actions = after(split(), r.Arrived("barn", half="front"), lost("one"))
    assert (state.seats[0].state, state.seats[0].reason) == ("arrived", "without its tail's half: one is gone")
    assert actions == ()

    whole, _ = after(state, r.Arrived("barn", half="tail"))
    assert whole.seats[0] == Seat("barn", "arrived", bundle=PART, front=True, tail="one", halves=("front", "tail"))

    state, _ = after(state, *halves("coop"), r.Arrived("mill"))
    assert state.sentence == "3 of 3 devices answered; barn counts without its tail's half: one is gone"


def test_a_tail_that_is_done_may_go() -> None:
    """Where the tail's half came, its board ends by itself, or says that it cannot."""
    state, actions = after(split(), r.Arrived("barn", half="tail"), lost("one"))
    assert (state.seats[0].state, actions) == ("waiting", ())

    state, _ = after(state, lost("one", "barn"), *halves("coop"), r.Arrived("mill"))
    assert state.sentence == "2 of 3 devices answered; of barn only its tail's half counts"


def test_a_board_that_fails_ends_its_tails_job() -> None:
    """Its tail need not wait for it."""
    state, actions = after(split(), r.Gone("barn", "no rows"))

    assert state.seats[0].state == "failed"
    assert actions == (r.Withdraw("one", False, 1, "barn"),)


def test_the_deadline_takes_what_came() -> None:
    """Fronts count and tails are called off; a board of which nothing came is late."""
    state, actions = after(split(quorum=1), r.Arrived("barn", half="front"), r.Tick(100.0))

    assert [s.state for s in state.seats] == ["arrived", "late", "late"]
    assert r.Withdraw("one", False, 1, "barn") in actions
    assert r.Withdraw("barn", False) not in actions
    assert state.phase == "making"
    assert state.sentence == "1 of 3 devices answered; barn counts without its tail's half: the deadline passed"


def test_a_front_without_a_tail_is_not_asked_again() -> None:
    """A continuous round asks failed boards again at its deadline, but for those that nobody could go on for."""
    seats = (Seat("barn", "failed", "no tail", front=True, bundle=PART), Seat("mill", "failed", "busy"))
    state, actions = after(opened(seats=seats, laps=0, quorum=1), r.Tick(100.0))

    assert actions == (r.Ask("mill", False, 2),)
    assert state.seats[0].state == "failed"


def test_the_next_lap_seats_fronts_as_they_are_then() -> None:
    """With the tails and bundles that the hub knows when the version is made."""
    state, _ = after(split(laps=2), *halves("barn"), *halves("coop"), r.Arrived("mill"))
    told = (
        Seat("barn", front=True, bundle=PART, tail="two"),
        Seat("coop", "failed", "no tail", front=True, bundle=PART),
    )
    state, actions = after(state, r.Made("b" * 64, "", (), 70.0, seats=told))

    assert [(s.tail, s.state, s.halves) for s in state.seats] == [
        ("two", "waiting", ()),
        ("", "failed", ()),
        ("", "waiting", ()),
    ]
    assert [a.device for a in actions if isinstance(a, r.Ask)] == ["two", "barn", "mill"]


def told(state: Round, job: str, device: str, base: str = BASE) -> str:
    """Why a tail's half cannot count."""
    return refusal(state, job, device, "tail", base)


def test_what_a_tail_is_answered() -> None:
    """Its half counts for the board whose tail it has now, once, from the job's version, while it is waited for."""
    state, job = split(), "r7-train-barn.tail"
    assert told(state, job, "one") == ""
    assert "expected the job of a tail that round 7 gave two, found r7-train-barn.tail" in told(state, job, "two")
    assert "expected the job of a tail that round 7 gave barn" in told(state, "r7-train-barn", "barn")
    assert "started from version aaaaaaaaaaaa, found one from cccc" in told(state, job, "one", "c" * 64)
    assert "has the half" in told(after(state, halves("barn")[1])[0], job, "one")
    assert "takes part no more" in told(after(state, r.Gone("barn", "no rows"))[0], job, "one")
    assert "moved on without r7-train-barn.tail: barn was asked again" in told(after(state, lost("one"))[0], job, "one")
    assert told(after(state, lost("one"))[0], "r7.2-train-barn.tail", "two") == ""
    ended = after(state, r.Tick(100.0))[0]
    assert "no longer waits" in told(ended, job, "one")
    assert "does not wait for barn" in refusal(
        after(state, halves("barn")[0])[0], "r7-train-barn", "barn", "adapter", BASE
    )


def test_what_is_spoiled() -> None:
    """An update for the job that a device has, of another base or kind; nothing that was refused for another reason."""
    state, other = split(), "c" * 64
    assert is_spoiled(state, "r7-train-barn", "barn", "adapter", other)
    assert is_spoiled(state, "r7-train-barn.tail", "one", "tail", other)
    assert is_spoiled(state, "r7-train-mill", "mill", "scores", BASE)
    assert not is_spoiled(state, "r7-train-mill", "mill", "adapter", BASE)
    assert not is_spoiled(state, "r6-train-mill", "mill", "adapter", other)
    assert not is_spoiled(after(state, r.Arrived("mill"))[0], "r7-train-mill", "mill", "adapter", other)
    assert not is_spoiled(after(state, halves("barn")[0])[0], "r7-train-barn", "barn", "adapter", other)


devices = st.sampled_from(["barn", "coop", "mill"])
tails = st.sampled_from(["one", "two"])
events = st.one_of(
    st.builds(lambda d, h: r.Arrived(d, half="" if d == "mill" else h), devices, st.sampled_from(["front", "tail"])),
    st.builds(r.Gone, devices, st.just("why")),
    st.builds(
        lost, tails, st.sampled_from(["", "barn", "coop"]), st.sampled_from([{}, {"two": 0}, {"one": 1, "two": 0}])
    ),
    st.builds(r.Tick, st.floats(0, 300)),
)


@given(st.lists(events, max_size=25))
def test_no_order_of_events_loses_a_half(told: list[object]) -> None:
    """A half that arrived stays so; jobs that are out are those of seats that wait; a state survives the ledger."""
    state, out = split(quorum=1), set[tuple[str, str, int]]()
    state, actions = step(state, r.Opened())
    seen: dict[str, set[str]] = {seat.device: set() for seat in state.seats}
    for event in [None, *told]:
        if event is not None:
            before = state
            state, actions = step(state, event)
            if isinstance(event, r.Arrived) and before.phase == "collecting" and event.half:
                seen[event.device].add(event.half)
        for action in actions:
            if isinstance(action, r.Ask):
                out.add((action.device, action.board, action.turn))
            elif isinstance(action, r.Withdraw):
                out.discard((action.device, action.board, action.turn))
        assert all(set(seat.halves) >= seen[seat.device] for seat in state.seats)
        assert read_record(Round, json.loads(json.dumps(plain(state))), "a round") == state
        if state.phase == "collecting":
            waiting = {(a.device, a.board, a.turn) for a in rounds.resume(state) if isinstance(a, r.Ask)}
            assert waiting <= out
            assert all(seat.turn <= state.turn for seat in state.seats)
