"""A round as a table without I/O: (round, event) -> (round, actions).

    phase       event                                   next phase   actions
    ----------  --------------------------------------  -----------  --------------------------------------
    collecting  Opened                                  collecting   Ask every device
    collecting  Arrived, Gone: some still wait          collecting   -
    collecting  the last of them, or Tick at deadline,
                  quorum reached, train or statistics   making       Withdraw those that wait, Make
                  quorum reached, evaluate              complete     Withdraw those that wait
                  no quorum                             failed       Withdraw those that wait
    making      Made, not a candidate                   complete     -
    making      Made, nothing released before           complete     Release
    making      Made, to be judged                      gating       Ask every judge
    making      Unmade                                  failed       -
    making      Tick                                    making       Make (it was put off: a full disk, say)
    gating      Arrived, Gone: some still wait          gating       -
    gating      the last of them, or Tick at deadline   judging      Withdraw those that wait, Judge
    judging     Judged, not worse                       complete     Release
    judging     Judged, worse                           complete     Retreat to the version in use
    judging     Tick                                    judging      Judge
    open        Stopped                                 failed       Withdraw those that wait
    any         anything else (late, double, strange)   as it was    -

What an update must be to count is `refusal`; it is asked before anything is journalled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from hub.round import (
    OPEN,
    UPDATE_OF,
    Action,
    Arrived,
    Ask,
    Gone,
    Judge,
    Judged,
    Made,
    Make,
    Opened,
    Release,
    Retreat,
    Round,
    Seat,
    Stopped,
    Tick,
    Unmade,
    Withdraw,
)
from wire.messages import UpdateKind

Step = tuple[Round, tuple[Action, ...]]
OUTSTANDING: dict[str, tuple[Action, ...]] = {"making": (Make(),), "judging": (Judge(),)}


def step(state: Round, event: object) -> Step:
    """The next state and what is to be done; an event that does not belong here changes nothing."""
    handler = TABLE.get((state.phase, type(event)))
    return handler(state, event) if handler is not None else (state, ())


def resume(state: Round) -> tuple[Action, ...]:
    """What is outstanding, for a hub that was killed: doing it twice does no harm."""
    gate = state.phase == "gating"
    if state.phase in ("collecting", "gating"):
        return tuple(Ask(s.device, gate) for s in seated(state) if s.state == "waiting")
    return OUTSTANDING.get(state.phase, ())


def seated(state: Round) -> tuple[Seat, ...]:
    """The seats that the present phase fills."""
    return state.judges if state.phase in ("gating", "judging") else state.seats


def refusal(state: Round | None, job: str, device: str, kind: UpdateKind, base: str) -> str:
    """Why an update cannot count, as a sentence; empty if it can."""
    if state is None:
        return f"expected an update of a round of this hub, found job {job}; drop it"
    own, gate = job_id(state.number, state.kind, device), job_id(state.number, "gate", device)
    judging = job == gate
    wanted = UPDATE_OF["evaluate" if judging else state.kind]
    bases = (state.version, state.against) if judging else state.versions
    seats = state.judges if judging else state.seats
    waited = any(s.device == device and s.state in ("waiting", "failed") for s in seats)
    number = state.number
    problems = {
        f"expected the job that round {number} gave {device}, found {job}": job not in (own, gate),
        f"expected an update of kind {wanted} for {job}, found {kind}": kind != wanted,
        f"expected an update that started from version {bases[0][:12]}, found one from {base[:12]}": base not in bases,
        f"round {number} no longer waits for {job}": state.phase != ("gating" if judging else "collecting"),
        f"round {number} does not wait for {device}": not waited,
    }
    return next((f"{sentence}; drop it" for sentence, holds in problems.items() if holds), "")


def job_id(number: int, what: str, device: str) -> str:
    """The name of a job.

    >>> job_id(3, "train", "barn-1")
    'r3-train-barn-1'
    """
    return f"r{number}-{what}-{device}"


def _opened(state: Round, event: Opened) -> Step:
    return state, resume(state)


def _arrived(state: Round, event: Arrived) -> Step:
    if event.gate != (state.phase == "gating"):
        return state, ()
    return _settle(_mark(state, event.device, "arrived", ""))


def _gone(state: Round, event: Gone) -> Step:
    if event.gate != (state.phase == "gating"):
        return state, ()
    return _settle(_mark(state, event.device, "failed", event.reason))


def _passes(state: Round, event: Tick) -> Step:
    return _settle(state, late=event.now_s >= state.deadline_at_s)


def _settle(state: Round, late: bool = False) -> Step:
    """Leave a collecting phase when nobody is waited for any more."""
    gate, seats = state.phase == "gating", seated(state)
    waiting = tuple(s.device for s in seats if s.state == "waiting")
    if waiting and not late:
        return state, ()
    arrived = sum(s.state == "arrived" for s in seats)
    for device in waiting:
        state = _mark(state, device, "late", "the deadline passed")
    withdrawn: tuple[Action, ...] = tuple(Withdraw(device, gate) for device in waiting)
    if gate:
        return replace(state, phase="judging"), (*withdrawn, Judge())
    if arrived < state.quorum:
        found = f"{arrived} of {len(seats)} devices answered, {state.quorum} are needed"
        why = "; ".join(f"{s.device}: {s.reason}" for s in state.seats if s.reason)
        return replace(state, phase="failed", sentence=f"{found}{f' ({why})' if why else ''}"), withdrawn
    counted = f"{arrived} of {len(seats)} devices answered"
    if state.kind == "evaluate":
        return replace(state, phase="complete", sentence=counted), withdrawn
    return replace(state, phase="making", sentence=counted), (*withdrawn, Make())


def _mark(state: Round, device: str, what: Literal["arrived", "failed", "late"], reason: str) -> Round:
    """Change one seat; a seat that has arrived stays so."""
    seats = tuple(
        replace(s, state=what, reason=reason) if s.device == device and s.state != "arrived" else s
        for s in seated(state)
    )
    return replace(state, judges=seats) if state.phase == "gating" else replace(state, seats=seats)


def _made(state: Round, event: Made) -> Step:
    said = "; ".join((state.sentence, *event.notes))
    made = replace(state, version=event.version, against=event.against, sentence=said)
    if not event.has_head or (event.against and not state.candidate):
        return replace(made, phase="complete", sentence=f"{said}; not a candidate for release"), ()
    if not event.against:
        done = replace(made, phase="complete", released=True)
        return replace(done, sentence=f"{said}; the first version, released"), (Release(event.version),)
    judges = tuple(Seat(device) for device in event.judges)
    gating = replace(made, phase="gating", judges=judges, deadline_at_s=event.now_s + state.deadline_s)
    return (gating, resume(gating)) if judges else _settle(gating)


def _unmade(state: Round, event: Unmade) -> Step:
    return replace(state, phase="failed", sentence=event.reason), ()


def _again(state: Round, event: Tick) -> Step:
    return state, resume(state)


def _judged(state: Round, event: Judged) -> Step:
    done = replace(
        state,
        phase="complete",
        released=event.released,
        candidate_accuracy=event.candidate,
        parent_accuracy=event.parent,
        accuracy_error=event.error,
        sentence=f"{state.sentence}; {event.sentence}",
    )
    return done, (Release(state.version) if event.released else Retreat(state.against),)


def _stopped(state: Round, event: Stopped) -> Step:
    gate = state.phase == "gating"
    waiting = tuple(Withdraw(s.device, gate) for s in seated(state) if s.state == "waiting")
    return replace(state, phase="failed", sentence=event.reason), waiting


Handler = Callable[[Round, Any], Step]

TABLE: dict[tuple[str, type], Handler] = {
    ("collecting", Opened): _opened,
    ("collecting", Arrived): _arrived,
    ("collecting", Gone): _gone,
    ("collecting", Tick): _passes,
    ("making", Made): _made,
    ("making", Unmade): _unmade,
    ("making", Tick): _again,
    ("gating", Arrived): _arrived,
    ("gating", Gone): _gone,
    ("gating", Tick): _passes,
    ("judging", Judged): _judged,
    ("judging", Tick): _again,
    **{(phase, Stopped): _stopped for phase in OPEN},
}
