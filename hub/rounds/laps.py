"""What a round does with its seats between two versions: who goes on, who is asked again, who is dismissed. No I/O.

In a synchronous lap every board starts from the newest version, so nobody goes on with an older job. In a buffered one
(FedBuff: Nguyen et al., arXiv 2106.06639) a board that computes goes on, until it has missed too many versions; one
that delivered rests until the next version and starts from it.
"""

from __future__ import annotations

from dataclasses import replace

from hub.rounds.halves import alone, asks, behind, withdraws
from hub.rounds.refusal import seated
from hub.rounds.state import Action, Made, Round, Seat, SeatState

LATE = "the deadline passed"


def dismissed(state: Round, what: SeatState, reason: str) -> tuple[Round, tuple[Action, ...]]:
    """Nobody waits any more for those that have not answered."""
    gate = state.phase in ("gating", "judging")
    told = ("waiting",) if state.secure is None else ("waiting", "arrived")  # these keep what opens a sum
    waiting = tuple(w for s in seated(state) if s.state in told for w in withdraws(s, gate))
    late = what == "late" and reason == LATE and not gate
    told_of = ((s, behind(state, s) if late else "") for s in seated(state))
    seats = tuple(
        _dismissed(s, what, "; ".join(filter(None, (reason, why)))) if s.state == "waiting" else s for s, why in told_of
    )
    return (replace(state, judges=seats) if gate else replace(state, seats=seats)), waiting


def _dismissed(seat: Seat, what: SeatState, reason: str) -> Seat:
    return alone(seat, reason) if "front" in seat.halves else replace(seat, state=what, reason=reason)


def next_lap(state: Round, event: Made) -> tuple[Round, tuple[Action, ...]]:
    """From a version that was made to the next one; `state.version` is the new one already."""
    lap, turn = state.lap + 1, state.turn + 1
    kept = going_on(state)
    busy = {s.device for s in kept}
    wanted = tuple(s.device for s in state.seats) if event.devices is None else event.devices
    known = {s.device: s for s in event.seats}
    fresh = [
        replace(known.get(d, Seat(d)), turn=turn, lap=lap, base=state.version, halves=(), tried=())
        for d in wanted
        if d not in busy
    ]
    seats = tuple(sorted((*kept, *fresh), key=lambda s: s.device))
    stale = tuple(w for s in state.seats if s.state == "waiting" and s not in kept for w in withdraws(s))
    on = replace(state, phase="collecting", lap=lap, turn=turn, seats=seats)
    asked = (a for s in fresh if s.state == "waiting" for a in asks(s))
    return replace(on, deadline_at_s=event.now_s + state.deadline_s), (*stale, *asked)


def going_on(state: Round) -> tuple[Seat, ...]:
    """The seats that keep their jobs when this lap's version is made."""
    fresh_enough = state.lap + 1 - state.staleness
    return tuple(s for s in state.seats if state.mode == "buffered" and s.state == "waiting" and s.lap >= fresh_enough)


def asked_again(state: Round, now_s: float) -> tuple[Round, tuple[Action, ...]]:
    """The same lap until a later deadline: boards that failed get another job, the others go on with theirs."""
    turn = state.turn + 1
    again = tuple(_again(s, turn, state) if _may_again(s) else s for s in state.seats)
    fresh = tuple(a for s in again if s.turn == turn for a in asks(s))
    on = replace(state, seats=again, turn=turn if fresh else state.turn, deadline_at_s=now_s + state.deadline_s)
    return on, fresh


def _may_again(seat: Seat) -> bool:
    """Of a board of which a half counts another job could not; a front without a tail has nobody to go on."""
    return seat.state == "failed" and not seat.halves and (bool(seat.tail) or not seat.front)


def _again(seat: Seat, turn: int, state: Round) -> Seat:
    return replace(seat, state="waiting", reason="", turn=turn, lap=state.lap, base=state.start)
