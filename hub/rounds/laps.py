"""What a round does with its seats between two versions: who goes on, who is asked again, who is dismissed. No I/O.

In a synchronous lap every board starts from the newest version, so nobody goes on with an older job. In a buffered one
(FedBuff: Nguyen et al., arXiv 2106.06639) a board that computes goes on, until it has missed too many versions; one
that delivered rests until the next version and starts from it.
"""

from __future__ import annotations

from dataclasses import replace

from hub.rounds.refusal import seated
from hub.rounds.state import Action, Ask, Made, Round, Seat, SeatState, Withdraw


def dismissed(state: Round, what: SeatState, reason: str) -> tuple[Round, tuple[Action, ...]]:
    """Nobody waits any more for those that have not answered."""
    gate = state.phase in ("gating", "judging")
    told = ("waiting",) if state.secure is None else ("waiting", "arrived")  # these keep what opens a sum
    waiting = tuple(Withdraw(s.device, gate, s.turn) for s in seated(state) if s.state in told)
    seats = tuple(replace(s, state=what, reason=reason) if s.state == "waiting" else s for s in seated(state))
    return (replace(state, judges=seats) if gate else replace(state, seats=seats)), waiting


def next_lap(state: Round, event: Made) -> tuple[Round, tuple[Action, ...]]:
    """From a version that was made to the next one; `state.version` is the new one already."""
    lap, turn = state.lap + 1, state.turn + 1
    kept = going_on(state)
    busy = {s.device for s in kept}
    wanted = tuple(s.device for s in state.seats) if event.devices is None else event.devices
    fresh = [Seat(d, turn=turn, lap=lap, base=state.version) for d in wanted if d not in busy]
    seats = tuple(sorted((*kept, *fresh), key=lambda s: s.device))
    stale = tuple(Withdraw(s.device, False, s.turn) for s in state.seats if s.state == "waiting" and s not in kept)
    on = replace(state, phase="collecting", lap=lap, turn=turn, seats=seats)
    return replace(on, deadline_at_s=event.now_s + state.deadline_s), (*stale, *(ask(s) for s in fresh))


def going_on(state: Round) -> tuple[Seat, ...]:
    """The seats that keep their jobs when this lap's version is made."""
    fresh_enough = state.lap + 1 - state.staleness
    return tuple(s for s in state.seats if state.mode == "buffered" and s.state == "waiting" and s.lap >= fresh_enough)


def asked_again(state: Round, now_s: float) -> tuple[Round, tuple[Action, ...]]:
    """The same lap until a later deadline: boards that failed get another job, the others go on with theirs."""
    turn = state.turn + 1
    again = tuple(
        Seat(s.device, turn=turn, lap=state.lap, base=state.start) if s.state == "failed" else s for s in state.seats
    )
    fresh = tuple(ask(s) for s in again if s.turn == turn)
    on = replace(state, seats=again, turn=turn if fresh else state.turn, deadline_at_s=now_s + state.deadline_s)
    return on, fresh


def ask(seat: Seat, gate: bool = False) -> Ask:
    """Send a seat its job."""
    return Ask(seat.device, gate, seat.turn)
