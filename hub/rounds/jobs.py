"""The jobs of a round: what is sent to a board when the table says Ask. The same asking gives the same bytes."""

from __future__ import annotations

from typing import Any

from hub.rounds.refusal import job_id, seat_of
from hub.rounds.state import Ask, Round, Withdraw
from hub.store.ledger import Row
from wire.messages import Job, encode


def name_of(state: Round, action: Ask | Withdraw) -> str:
    """The name of the job that an action is about."""
    return job_id(state.number, "gate" if action.gate else state.kind, action.device, action.turn)


def job_of(state: Round, action: Ask) -> Job:
    """What a board is asked: to judge a version, or to go on from the one that its seat names."""
    device, name = action.device, name_of(state, action)
    if action.gate:
        pair = (state.version, state.against)
        return Job(device, name, "evaluate", state.number, pair, {"split": "holdout"})
    seat = seat_of(state.seats, device)
    versions = (seat.base,) if seat is not None and seat.base else state.versions
    return Job(device, name, state.kind, state.number, versions, _settings(state, action.turn))


def row_of(state: Round, action: Ask) -> Row:
    """The same as a row of the ledger."""
    message = job_of(state, action)
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
    seed = state.settings.get("seed")
    return state.settings if seed is None or turn == 1 else {**state.settings, "seed": seed + turn - 1}
