"""A round as a table without I/O: (round, event) -> (round, actions).

    phase       event                                   next phase   actions
    ----------  --------------------------------------  -----------  --------------------------------------
    collecting  Opened                                  collecting   Ask every device
    collecting  Arrived, Gone: some still wait          collecting   - (of a board with a tail: Withdraw that)
    collecting  Lost: a tail                            collecting   Ask its boards again, with another tail
    collecting  enough (the goal, or the last of them,
                  or Tick at the deadline) and
                  quorum reached, train or statistics   making       Withdraw those that wait (*), Make
                  quorum reached, evaluate, or a fix
                    that is only tried                  complete     Withdraw those that wait
                  no quorum, one version                failed       Withdraw those that wait
                  no quorum, continuous, Tick           collecting   Ask those that failed; a later deadline
    making      Made, another lap                       collecting   Ask for the next lap; Withdraw the stale
    making      Made, not a candidate                   complete     Withdraw those that wait
    making      Made, a fix: its gate is in the making  complete     Release, unless a person wants to
    making      Made, nothing released before           as above     Release, and as above
    making      Made, to be judged                      gating       Ask every judge
    making      Unmade                                  failed       Withdraw those that wait
    making      Tick                                    making       Make (it was put off: a full disk, say)
    gating      Arrived, Gone: some still wait          gating       -
    gating      the last of them, or Tick at deadline   judging      Withdraw those that wait, Judge
    judging     Judged, not worse                       complete     Release
    judging     Judged, worse                           complete     Retreat to the version in use
    judging     Tick                                    judging      Judge
    collecting  Stopped, continuous, quorum reached     making       Withdraw those that wait, Make: the last one
    making      Stopped, not the last lap               making       Withdraw those that wait: it is the last one
    open        Stopped, continuous, a version made     complete     Withdraw those that wait
    open        Stopped                                 failed       Withdraw those that wait
    collecting  of a sum under masks                    see          hub.masking.stages
    any         anything else (late, double, strange)   as it was    -

    (*) Buffered, those that wait go on with their jobs while a version is made, unless it is the last one.

A lap is the way to one version; a round has one lap, so many, or as many as there is time for (continuous). A
synchronous lap counts what started from the version before it; a buffered one (hub.rounds.laps) what arrives, by its
staleness. What an update must be to count is `hub.rounds.refusal`; it is asked before anything is journalled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from hub.masking import stages
from hub.rounds.halves import asks, handed_over, has_answered, lacking, with_half, withdraws
from hub.rounds.laps import LATE, asked_again, dismissed, next_lap
from hub.rounds.refusal import counted, seated
from hub.rounds.state import (
    OPEN,
    Action,
    Arrived,
    Ask,
    Gone,
    Judge,
    Judged,
    Lost,
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
)

Step = tuple[Round, tuple[Action, ...]]
NOTHING: tuple[Action, ...] = ()
STAYS = "the version in use stays in use"
OUTSTANDING: dict[str, tuple[Action, ...]] = {"making": (Make(),), "judging": (Judge(),)}


def step(state: Round, event: object) -> Step:
    """The next state and what is to be done; an event that does not belong here changes nothing."""
    handler = TABLE.get((state.phase, type(event)))
    return handler(state, event) if handler is not None else (state, ())


def resume(state: Round) -> tuple[Action, ...]:
    """What is outstanding, for a hub that was killed: doing it twice does no harm."""
    gate = state.phase == "gating"
    if state.phase in ("collecting", "gating"):
        return tuple(a for s in seated(state) if s.state == "waiting" for a in asks(s, gate))
    return OUTSTANDING.get(state.phase, ())


def _opened(state: Round, event: Opened) -> Step:
    return state, resume(state)


def _arrived(state: Round, event: Arrived) -> Step:
    if event.gate != (state.phase == "gating") or event.stage != stages.stage_of(state):
        return state, ()
    if event.half:
        seats = tuple(with_half(s, event.half) if s.device == event.device else s for s in state.seats)
        return _settle(replace(state, seats=seats), event.now_s)
    return _settle(_mark(state, event.device, "arrived", ""), event.now_s)


def _gone(state: Round, event: Gone) -> Step:
    if event.gate != (state.phase == "gating"):
        return state, ()
    gone = () if event.gate else tuple(s for s in state.seats if s.device == event.device and s.state == "waiting")
    tail = tuple(w for s in gone if "front" not in s.halves for w in withdraws(s) if w.board)
    state, actions = _settle(_mark(state, event.device, "failed", event.reason))
    return state, (*tail, *actions)


def _lost(state: Round, event: Lost) -> Step:
    """Boards that were moved have as much time as at first."""
    state, moved = handed_over(state, event.tail, event.reason, event.others, event.device)
    if any(isinstance(action, Ask) for action in moved):
        state = replace(state, deadline_at_s=max(state.deadline_at_s, event.now_s + state.deadline_s))
    state, actions = _settle(state)
    return state, (*moved, *actions)


def _passes(state: Round, event: Tick) -> Step:
    return _settle(state, event.now_s)


def _settle(state: Round, now_s: float | None = None) -> Step:
    """Leave a collecting phase when there is enough, or nobody is waited for any more."""
    if state.secure is not None:
        return stages.settled(state, state.secure, now_s)
    gate, seats = state.phase == "gating", seated(state)
    waiting = any(s.state == "waiting" for s in seats)
    late = now_s is not None and now_s >= state.deadline_at_s
    arrived = sum(s.state == "arrived" for s in seats)
    enough = not gate and 0 < state.goal <= arrived
    if waiting and not late and not enough:
        return state, ()
    if gate:
        state, withdrawn = dismissed(state, "late", LATE)
        return replace(state, phase="judging"), (*withdrawn, Judge())
    arrived = sum(has_answered(s) for s in seats)
    if arrived < state.quorum and state.laps != 1:
        return asked_again(state, now_s) if late and now_s is not None else (state, ())
    return _close(state, arrived, enough)


def _close(state: Round, arrived: int, enough: bool) -> Step:
    """Make do with what has arrived, if it is a quorum."""
    answers, withdrawn = f"{arrived} of {len(state.seats)} devices answered", NOTHING
    if state.mode == "synchronous" or state.last:
        what: Literal["spare", "late"] = "spare" if enough else "late"
        state, withdrawn = dismissed(state, what, "enough others answered" if enough else LATE)
    answers = "; ".join(filter(None, (answers, lacking(state.seats))))
    if arrived < state.quorum:
        why = "; ".join(f"{s.device}: {s.reason}" for s in state.seats if s.reason)
        found = f"{answers}, {state.quorum} are needed{f' ({why})' if why else ''}"
        return replace(state, phase="failed", sentence=found), withdrawn
    tardy = (f"{s.device}: {s.reason}" for s in state.seats if s.state == "late" and s.step_s)
    answers = "; ".join((answers, *tardy))
    if state.kind == "evaluate" or state.settings.get("dry_run"):
        return replace(state, phase="complete", sentence=answers), withdrawn
    return replace(state, phase="making", sentence=answers), (*withdrawn, Make())


def _mark(state: Round, device: str, what: Literal["arrived", "failed"], reason: str) -> Round:
    """Change one seat; a seat that has arrived stays so."""
    seats = tuple(_marked(s, what, reason) if s.device == device and s.state != "arrived" else s for s in seated(state))
    return replace(state, judges=seats) if state.phase == "gating" else replace(state, seats=seats)


def _marked(seat: Seat, what: Literal["arrived", "failed"], reason: str) -> Seat:
    """A board whose front's half counts already cannot fail any more; its tail may."""
    return seat if what == "failed" and "front" in seat.halves else replace(seat, state=what, reason=reason)


def _made(state: Round, event: Made) -> Step:
    said = "; ".join((state.sentence, *event.notes))
    made = replace(state, version=event.version, against=event.against, sentence=said)
    if state.kind == "fix":  # its gate was the making
        goes = bool(state.settings["release"])
        done = replace(made, phase="complete", lap=state.lap + 1, released=goes, sentence="; ".join(event.notes))
        return done, (Release(event.version),) if goes else ()
    first = event.has_head and not event.against
    serve: tuple[Action, ...] = (Release(event.version),) if first else ()
    if not state.last:
        on, asked = next_lap(replace(made, released=made.released or first), event)
        return on, (*serve, *asked)
    made = replace(made, lap=state.lap + 1)
    if state.laps != 1:
        made = replace(made, sentence=f"{counted(state.laps)}; {said}")
    if first:
        done = replace(made, phase="complete", released=True)
        return replace(done, sentence=f"{made.sentence}; the first version, released"), serve
    if not event.has_head or not state.candidate:
        return replace(made, phase="complete", sentence=f"{made.sentence}; not a candidate for release"), ()
    judges = tuple(Seat(device) for device in event.judges)
    gating = replace(made, phase="gating", judges=judges, deadline_at_s=event.now_s + state.deadline_s)
    return (gating, resume(gating)) if judges else _settle(gating)


def _unmade(state: Round, event: Unmade) -> Step:
    state, withdrawn = dismissed(state, "late", event.reason)
    return replace(state, phase="failed", sentence=event.reason), withdrawn


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
        sentence=f"{state.sentence}; {event.sentence}; {'released' if event.released else STAYS}",
    )
    return done, (Release(state.version) if event.released else Retreat(state.against),)


def _stopped(state: Round, event: Stopped) -> Step:
    """What has been receipted in a continuous round makes a last version; a second stop does without."""
    single, reason = state.laps == 1, event.reason
    state, withdrawn = dismissed(state, "late", reason)
    arrived = sum(s.state == "arrived" for s in state.seats)
    if state.phase == "making" and not state.last:
        return replace(state, laps=state.lap + 1, sentence=f"{reason}; {state.sentence}"), withdrawn
    if state.phase == "collecting" and not single and arrived >= state.quorum:
        said = f"{reason}; {arrived} of {len(state.seats)} devices answered"
        return replace(state, phase="making", laps=state.lap + 1, sentence=said), (*withdrawn, Make())
    if not single and state.version:
        return replace(state, phase="complete", sentence=f"{counted(state.lap)}; {reason}"), withdrawn
    return replace(state, phase="failed", sentence=reason), withdrawn


Handler = Callable[[Round, Any], Step]

TABLE: dict[tuple[str, type], Handler] = {
    ("collecting", Opened): _opened,
    ("collecting", Arrived): _arrived,
    ("collecting", Gone): _gone,
    ("collecting", Lost): _lost,
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
