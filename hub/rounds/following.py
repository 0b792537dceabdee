"""A round of statistics that follows training by itself: sums are of one version of the adapter, and heads grow old."""

from __future__ import annotations

import math

from hub.making.versions import read_made
from hub.rounds.state import Round, Seat
from hub.store.registry import Home


def due(home: Home, model: str, every: int) -> bool:
    """Whether the next round of training of a model is the last of `every` without a new head; 0: never."""
    since = 0
    for state in home.ledger.rounds():
        if state.model == model and state.phase == "complete" and state.kind in ("train", "statistics"):
            since = since + 1 if state.kind == "train" else 0
    return every > 0 and since + 1 >= every


def following(home: Home, state: Round, now_s: float) -> Round | None:
    """The round of statistics that follows a round which has just ended; None if none does.

    It is for the devices of that round which can gather statistics, and a candidate for release.
    """
    refused = state.candidate and state.against and not state.released
    if state.then != "statistics" or state.phase != "complete" or not state.version or refused:
        return None
    able = {r["name"] for r in home.ledger.devices() if "statistics" in (r["hello"] or {}).get("jobs", ())}
    devices = [s.device for s in state.seats if s.device in able]
    if not devices:
        return None
    return Round(
        number=home.ledger.last_round() + 1,
        kind="statistics",
        versions=(state.version,),
        settings={"ranks": served_ranks(home, state.model)},
        quorum=max(1, math.ceil(home.config.rounds.quorum * len(devices))),
        deadline_s=state.deadline_s,
        deadline_at_s=now_s + state.deadline_s,
        candidate=True,
        seats=tuple(Seat(name) for name in devices),
        recipe=state.recipe,
        follows=state.number,
        model=state.model,
    )


def served_ranks(home: Home, model: str) -> list[int]:
    """The ranks that the boards of the fleet serve at; each prefix of a ladder makes features of its own."""
    rank = read_made(home.ledger.versions(model)[0]).version.rank
    return sorted({min(row["rank"], rank) for row in home.ledger.bundles(model)})
