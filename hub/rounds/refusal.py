"""What an update must be to count: asked before a byte of it is taken, without I/O.

    an update of          synchronous                           buffered
    --------------------  ------------------------------------  ------------------------------------------
    its job, in time      counts in this lap                    counts in this lap, by its staleness
    a spare seat (late)   refused: enough others had answered   -
    a late seat           refused: nobody waits any more        - (its job goes on; it counts when it comes)
    an earlier asking     refused: the round moved on           refused: the round moved on
    another job, kind,
      base or device      refused: what was expected            refused: what was expected
    a lap being made      refused: nobody waits any more        put off: no answer, so it is sent again
    a round that ended    refused: nobody waits any more        refused: nobody waits any more

What has its answer already (a double) has the same answer again, whatever the round does by now (hub.serving.updates).
"""

from __future__ import annotations

from hub.rounds.halves import half_of, seat_of_tail, tail_job
from hub.rounds.names import job_id
from hub.rounds.state import UPDATE_OF, Round, Seat
from wire.messages import UpdateKind


def seated(state: Round) -> tuple[Seat, ...]:
    """The seats that the present phase fills."""
    return state.judges if state.phase in ("gating", "judging") else state.seats


def seat_of(seats: tuple[Seat, ...], device: str) -> Seat | None:
    """The seat of a device."""
    return next((s for s in seats if s.device == device), None)


def is_asked(state: Round, job: str, device: str) -> bool:
    """Whether a job is the one that a device has from a round now, or its gate's."""
    seat = seat_of(state.seats, device)
    own = job_id(state.number, state.kind, device, seat.turn) if seat is not None else ""
    return job in (own, job_id(state.number, "gate", device))


def missed(state: Round, device: str) -> int:
    """How many versions the round made since the one that a device was asked to start from."""
    seat = seat_of(state.seats, device)
    return 0 if seat is None or state.phase == "gating" else state.lap - seat.lap


def puts_off(state: Round) -> bool:
    """Whether an update that counts must come again a little later: a version is being made just now."""
    return state.mode == "buffered" and state.phase == "making" and not state.last


def refusal(state: Round | None, job: str, device: str, kind: UpdateKind, base: str) -> str:
    """Why an update cannot count, as a sentence; empty if it can."""
    if state is None:
        return f"expected an update of a round of this hub, found job {job}; drop it"
    if kind == "tail":
        return _of_tail(state, job, device, base)
    number, gate = state.number, job_id(state.number, "gate", device)
    judging = job == gate
    wanted = UPDATE_OF["evaluate"] if judging else state.update_kind
    seat = seat_of(state.judges if judging else state.seats, device)
    own = job_id(number, state.kind, device, seat.turn if seat else 1)
    bases = (state.version, state.against) if judging else _bases(state, seat)
    missed = not judging and (seat is None or job != own) and _is_earlier(state, job, device)
    over = state.phase != ("gating" if judging else "collecting") and not puts_off(state)
    over = over or (state.secure is not None and state.secure.stage != "masked")
    spare = seat is not None and seat.state == "spare" and not judging
    waited = seat is not None and seat.state in ("waiting", "failed") and "front" not in seat.halves
    problems = {
        f"round {number} moved on without {job}: {_moved(state, seat)}": missed,
        f"expected the job that round {number} gave {device}, found {job}": job not in (own, gate),
        f"expected an update of kind {wanted} for {job}, found {kind}": kind != wanted,
        f"expected an update that started from version {bases[0][:12]}, found one from {base[:12]}": base not in bases,
        f"round {number} had the {state.goal} updates that it asked for before {job}": spare,
        f"round {number} no longer waits for {job}": over,
        f"round {number} does not wait for {device}": not waited,
    }
    return next((f"{sentence}; drop it" for sentence, holds in problems.items() if holds), "")


def _of_tail(state: Round, job: str, device: str, base: str) -> str:
    """The same of a tail's half of what a board learned."""
    number, seat = state.number, seat_of_tail(state, job, device)
    if seat is None:
        before = next((s for s in state.seats if _is_before(state, s, job)), None)
        if before is None:
            return f"expected the job of a tail that round {number} gave {device}, found {job}; drop it"
        return f"round {number} moved on without {job}: {before.device} was asked again; drop it"
    bases = _bases(state, seat)
    problems = {
        f"expected no update of a tail in a round of {state.kind}, found one for {job}": state.kind != "train",
        f"expected an update that started from version {bases[0][:12]}, found one from {base[:12]}": base not in bases,
        f"round {number} no longer waits for {job}": state.phase != "collecting",
        f"round {number} no longer waits for {job}, since {seat.device} takes part no more": (
            seat.state not in ("waiting", "arrived")
        ),
        f"round {number} has the half that {job} brings": "tail" in seat.halves,
    }
    return next((f"{sentence}; drop it" for sentence, holds in problems.items() if holds), "")


def _is_before(state: Round, seat: Seat, job: str) -> bool:
    """Whether a job is that of the tail of a board at an earlier asking."""
    return any(job == tail_job(state.number, state.kind, seat.device, turn) for turn in range(1, seat.turn))


def is_spoiled(state: Round, job: str, device: str, kind: UpdateKind, base: str) -> bool:
    """Whether what a device sends for the job that it has can never count, so that nobody need wait for it.

    It is of another kind, or started from another version than the job says: its device will not do it again.
    """
    if state.phase != "collecting" or state.secure is not None:
        return False
    tail = kind == "tail"
    seat = seat_of_tail(state, job, device) if tail else seat_of(state.seats, device)
    if seat is None or seat.state != "waiting" or half_of(seat, kind) in seat.halves:
        return False
    own = tail or job == job_id(state.number, state.kind, device, seat.turn)
    return own and (base not in _bases(state, seat) or (not tail and kind != state.update_kind))


def counted(versions: int) -> str:
    """How many versions, in words.

    >>> counted(1), counted(2)
    ('1 version', '2 versions')
    """
    return f"{versions} version{'' if versions == 1 else 's'}"


def _bases(state: Round, seat: Seat | None) -> tuple[str, ...]:
    return (seat.base,) if seat is not None and seat.base else state.versions


def _is_earlier(state: Round, job: str, device: str) -> bool:
    """Whether a job is of an asking of this round that is over."""
    seat = seat_of(state.seats, device)
    end = seat.turn if seat is not None else state.turn + 1
    number, _, rest = job.removeprefix(f"r{state.number}").partition(f"-{state.kind}-{device}")
    turn = number.removeprefix(".") or "1"
    whole = job.startswith(f"r{state.number}") and not rest and turn.isdecimal()
    return whole and job == job_id(state.number, state.kind, device, int(turn)) and int(turn) < end and state.turn > 1


def _moved(state: Round, seat: Seat | None) -> str:
    if seat is None:
        return f"it made {counted(state.lap)} and does not wait for this device"
    limit = f", and at most {state.staleness} may be missed" if state.mode == "buffered" else ""
    return f"it made {counted(state.lap)}{limit}; a newer job was sent"
