"""The stages of a sum under masks as a table without I/O (Bonawitz et al., CCS 2017, figure 4).

    stage     leaves when                          and then, if there are enough            else
    --------  -----------------------------------  ---------------------------------------  -------------------
    keys      all answered, or the deadline        shares: the roster to those who did      failed, Withdraw all
    shares    all answered, or the deadline        masked: what was sealed to each          failed, Withdraw all
    masked    all answered, or the deadline        agreed: the list of survivors to each    failed, Withdraw all
    agreed    all answered, or the deadline        reveals: what others said of the list    failed, Withdraw all
    reveals   the threshold answered               making: Withdraw all, Make               failed, Withdraw all

Each stage has a deadline of its own. Whoever does not answer one is out, but from `agreed` on its update is in the sum
all the same. Enough is the quorum for `keys`, and the threshold from there on.
"""

from __future__ import annotations

from dataclasses import replace

from hub.masking.secure import STAGES, Secure
from hub.rounds.state import Action, Ask, Make, Round, Seat, Withdraw

BROUGHT = {
    "keys": "keys",
    "shares": "shares",
    "masked": "masked update",
    "agreed": "word on survivors",
    "reveals": "shares of others",
}


def stage_of(state: Round) -> str:
    """What a round of this kind collects just now; empty for any other round."""
    return state.secure.stage if state.secure is not None and state.phase == "collecting" else ""


def waits_for(state: Round) -> str:
    """What an open round of this kind waits for, for people; empty for any other."""
    stage = stage_of(state)
    if not stage:
        return ""
    waiting = sum(s.state == "waiting" for s in state.seats)
    return f"under masks: {BROUGHT[stage]} of {waiting} devices to come"


def settled(state: Round, secure: Secure, now_s: float | None) -> tuple[Round, tuple[Action, ...]]:
    """Leave a stage when nobody is waited for any more."""
    arrived = tuple(s.device for s in state.seats if s.state == "arrived")
    waiting = any(s.state == "waiting" for s in state.seats)
    late = now_s is not None and now_s >= state.deadline_at_s
    last, threshold = secure.stage == "reveals", secure.told.threshold
    if waiting and not late and not (last and len(arrived) >= threshold):
        return state, ()
    needed = max(threshold, state.quorum) if secure.stage == "keys" else threshold
    if len(arrived) < needed:
        return _failed(state, secure, len(arrived), needed)
    if last:
        made = replace(state, seats=_counted(state, secure), phase="making", sentence=_said(state, secure))
        return made, (*_withdrawn(state, set(secure.survivors)), Make())
    return _next(state, secure, arrived, state.deadline_at_s if now_s is None else now_s)


def _next(state: Round, secure: Secure, arrived: tuple[str, ...], now_s: float) -> tuple[Round, tuple[Action, ...]]:
    moved = replace(members(secure, arrived), stage=STAGES[STAGES.index(secure.stage) + 1])
    out = {s.device for s in state.seats if s.state == "waiting"}
    seats = tuple(_seat(s, secure) for s in state.seats)
    on = replace(state, secure=moved, seats=seats, deadline_at_s=now_s + state.deadline_s)
    asked = tuple(Ask(s.device, False, s.turn) for s in seats if s.state == "waiting")
    return on, (*_withdrawn(state, out), *asked)


def members(secure: Secure, arrived: tuple[str, ...]) -> Secure:
    """Remember who answered a stage."""
    if secure.stage == "keys":
        return replace(secure, roster=arrived)
    if secure.stage == "shares":
        return replace(secure, maskers=arrived)
    return replace(secure, survivors=arrived) if secure.stage == "masked" else secure


def _seat(seat: Seat, secure: Secure) -> Seat:
    """Who answered is asked for the next thing; who did not is out."""
    if seat.state == "arrived":
        return replace(seat, state="waiting")
    if seat.state == "waiting":
        return replace(seat, state="late", reason=f"its {BROUGHT[secure.stage]} did not come in time")
    return seat


def _counted(state: Round, secure: Secure) -> tuple[Seat, ...]:
    """Those whose update is in the sum, whether they revealed anything or not."""
    return tuple(replace(s, state="arrived", reason="") if s.device in secure.survivors else s for s in state.seats)


def _failed(state: Round, secure: Secure, arrived: int, needed: int) -> tuple[Round, tuple[Action, ...]]:
    why = "; ".join(f"{s.device}: {s.reason}" for s in state.seats if s.reason)
    said = (
        f"{BROUGHT[secure.stage]} of {arrived} of {len(state.seats)} devices came, {needed} are needed for a sum under "
        f"masks, so nothing was opened{f' ({why})' if why else ''}"
    )
    seats = tuple(_seat(s, secure) if s.state == "waiting" else s for s in state.seats)
    everybody = {s.device for s in state.seats if s.state in ("waiting", "arrived")}
    return replace(state, phase="failed", seats=seats, sentence=said), _withdrawn(state, everybody)


def _withdrawn(state: Round, names: set[str]) -> tuple[Action, ...]:
    return tuple(Withdraw(s.device, False, s.turn) for s in state.seats if s.device in names)


def _said(state: Round, secure: Secure) -> str:
    dropped = len(secure.maskers) - len(secure.survivors)
    out = f"; the masks of {dropped} that dropped out were taken off" if dropped else ""
    return f"the sum of {len(secure.survivors)} of {len(state.seats)} devices under masks{out}"
