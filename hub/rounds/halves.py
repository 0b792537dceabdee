"""Split jobs, of which a board has the front and another device the tail: names, and what of one has come. No I/O.

Both halves of a board's update are journalled under its name and belong to the same version. A half that was receipted
counts in the slots that it holds even if the other one never comes: nothing that was receipted is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from devices.split.pace import late
from hub.rounds.names import job_id
from hub.rounds.state import Action, Ask, Half, Round, Seat, Withdraw

TAIL = ".tail"  # behind the name of the board's job
WITHOUT = "without its tail's half"
MOVES = 4  # so often a board is given another tail in a round
SUMS = {"coding": "float32", "labels": "stay", "mode": "features"}  # of rounds of statistics, to which features go back
WORDS: dict[str, tuple[str, ...]] = {  # what people may choose of split jobs; the first one is the usual one
    "coding": ("int8", "float16", "float32"),  # of what crosses the border
    "labels": ("along", "stay"),
    "mode": ("steps", "local"),
}


def tail_job(number: int, kind: str, board: str, turn: int = 1) -> str:
    """The name of the job of a board's tail.

    >>> tail_job(3, "train", "barn-1", 2)
    'r3.2-train-barn-1.tail'
    """
    return job_id(number, kind, board, turn) + TAIL


def seat_of_tail(state: Round, job: str, device: str) -> Seat | None:
    """The seat of the board whose tail a device has by a job, as the round stands now."""
    own = (s for s in state.seats if s.tail == device)
    return next((s for s in own if tail_job(state.number, state.kind, s.device, s.turn) == job), None)


def half_of(seat: Seat | None, kind: str) -> Half:
    """Which half of a split job an update is; empty where it is all of it: a tail brings no statistics."""
    return "" if seat is None or not seat.tail or kind == "statistics" else ("tail" if kind == "tail" else "front")


def with_half(seat: Seat, half: Half) -> Seat:
    """A seat with one more half: it has arrived when both are there, or when nobody waits for the other one."""
    halves = tuple(sorted({*seat.halves, half}))
    if halves == ("front", "tail"):
        return replace(seat, halves=halves, state="arrived", reason="")
    if half == "front" and seat.state == "failed":
        return replace(seat, halves=halves, state="arrived", reason=f"{WITHOUT}: {seat.reason}")
    return replace(seat, halves=halves)


def alone(seat: Seat, reason: str) -> Seat:
    """A seat whose front's half is there, and whose tail's half will not come."""
    return replace(seat, state="arrived", reason=f"{WITHOUT}: {reason}")


def has_answered(seat: Seat) -> bool:
    """Whether something of the board itself counts."""
    return seat.state == "arrived" or "front" in seat.halves


def asks(seat: Seat, gate: bool = False) -> tuple[Ask, ...]:
    """Send a seat's jobs that have not brought their half: the tail first, which the board will call."""
    tail = (Ask(seat.tail, gate, seat.turn, seat.device),) if seat.tail and "tail" not in seat.halves else ()
    return (*tail, *((Ask(seat.device, gate, seat.turn),) if "front" not in seat.halves else ()))


def withdraws(seat: Seat, gate: bool = False) -> tuple[Withdraw, ...]:
    """Tell those who have a seat's jobs that nobody waits any more."""
    return tuple(Withdraw(a.device, a.gate, a.turn, a.board) for a in asks(seat, gate))


def lacking(seats: Iterable[Seat]) -> str:
    """A word on boards that count with one half, for the sentence of a round; empty if there are none."""
    said = [f"{s.device} counts {s.reason}" for s in seats if s.halves == ("front",) and s.state == "arrived"]
    said += [f"of {s.device} only its tail's half counts" for s in seats if s.halves == ("tail",)]
    return "; ".join(said)


def behind(state: Round, seat: Seat) -> str:
    """Why a front is late, as far as its plan says; empty where nobody planned."""
    steps = state.settings.get("steps")
    if not (seat.tail and seat.step_s and isinstance(steps, int)):
        return ""
    return late(seat.step_s, steps, state.deadline_s)


def handed_over(
    state: Round, tail: str, reason: str, others: dict[str, int], device: str = "", most: int = MOVES
) -> tuple[Round, tuple[Action, ...]]:
    """A round whose boards lost a tail: those that have not finished are asked again with another one.

    Args:
        state: the round, collecting.
        tail: the device that is gone, or that one board cannot work with.
        reason: why, for people.
        others: the tails that can take boards, with how many each has.
        device: the one board that it is about; empty: all that this tail has.
        most: so often a board is moved.

    Returns:
        The round, and what is to be done. A board whose front's half came counts with that; one of which only the
        tail's half came is waited for, unless it says itself that it cannot go on.
    """
    load, turn = dict(others), state.turn + 1
    seats, actions = list[Seat](), list[Action]()
    for seat in state.seats:
        if seat.tail != tail or seat.state != "waiting" or device not in ("", seat.device):
            seats.append(seat)
            continue
        if "front" in seat.halves:
            seats.append(alone(seat, reason))
        elif seat.halves:
            seats.append(replace(seat, state="failed", reason=reason) if device else seat)
        else:
            tried = (*seat.tried, tail)
            best = min(load, key=lambda name: (tried.count(name), load[name], name), default="")
            actions += withdraws(seat)
            if not best or len(tried) > most:
                seats.append(replace(seat, state="failed", reason=f"no tail is left for it: {reason}", tried=tried))
                continue
            load[best] += 1
            again = Seat(seat.device, turn=turn, lap=state.lap, base=state.start, bundle=seat.bundle, front=True)
            seats.append(replace(again, tail=best, step_s=seat.step_s, tried=tried))
            actions += asks(seats[-1])
    fresh = any(s.turn == turn for s in seats)
    return replace(state, seats=tuple(seats), turn=turn if fresh else state.turn), tuple(actions)
