"""The jobs of a round: what is sent to a device when the table says Ask. The same asking gives the same bytes.

A split job is two: that of the board names its tail, that of the tail its board, each with the key by which they know
each other. The hub has signed both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hub.rounds.halves import tail_job
from hub.rounds.names import job_id
from hub.rounds.refusal import seat_of
from hub.rounds.state import Ask, Round, Seat, Withdraw
from hub.store.ledger import Row
from wire.messages import Job, encode

SPLIT = "split"  # of the settings of a job of training or statistics; of an evaluation it says which rows


@dataclass(frozen=True)
class Reached:
    """How two devices know and find each other: the line of a public key; HOST:PORT, or empty: by the broker."""

    key: str
    address: str = ""


Reach = Callable[[str], Reached]


def name_of(state: Round, action: Ask | Withdraw) -> str:
    """The name of the job that an action is about."""
    if action.board:
        return tail_job(state.number, state.kind, action.board, action.turn)
    return job_id(state.number, "gate" if action.gate else state.kind, action.device, action.turn)


def job_of(state: Round, action: Ask, reach: Reach) -> Job:
    """What a device is asked: to judge a version, or to go on from the one that its seat names.

    Args:
        state: the round.
        action: who is asked.
        reach: how a device is known and found, by its name.
    """
    device, name = action.device, name_of(state, action)
    if action.gate:
        pair = (state.version, state.against)
        return Job(device, name, "evaluate", state.number, pair, {"split": "holdout"})
    seat = seat_of(state.seats, action.board or device)
    versions = (seat.base,) if seat is not None and seat.base else state.versions
    settings = _settings(state, action.turn) | _split(state, seat, action, reach)
    return Job(device, name, "tail" if action.board else state.kind, state.number, versions, settings)


def row_of(state: Round, action: Ask, reach: Reach) -> Row:
    """The same as a row of the ledger."""
    message = job_of(state, action, reach)
    return {
        "job": message.job,
        "round": state.number,
        "lap": state.lap,
        "device": action.device,
        "kind": message.kind,
        "body": encode(message),
    }


def _settings(state: Round, turn: int) -> dict[str, Any]:
    """Every asking draws other rows: a board that is asked again shall not repeat itself."""
    seed, told = state.settings.get("seed"), state.settings
    if state.kind in ("train", "statistics"):
        told = {name: value for name, value in told.items() if name != SPLIT}
    return told if seed is None or turn == 1 else {**told, "seed": seed + turn - 1}


def _split(state: Round, seat: Seat | None, action: Ask, reach: Reach) -> dict[str, Any]:
    """Who has the other half; nothing of a job that is whole."""
    if seat is None or not seat.tail:
        return {}
    told, tail = state.settings.get(SPLIT) or {}, reach(seat.tail)
    if action.board:
        return {SPLIT: {**told, "board": seat.device, "key": reach(seat.device).key}}
    return {SPLIT: {**told, "tail": seat.tail, "key": tail.key, "address": tail.address}}
