"""A round of statistics that follows training by itself: sums are of one version of the adapter, and heads grow old."""

from __future__ import annotations

import math
from collections.abc import Iterable

from hub.making.model import Model
from hub.making.versions import read_made
from hub.rounds.halves import SUMS
from hub.rounds.jobs import SPLIT
from hub.rounds.seating import FRONT, has_judges, seats_for, tails_of
from hub.rounds.state import Round
from hub.store.registry import Home


def due(home: Home, model: str, every: int) -> bool:
    """Whether the next round of training of a model is the last of `every` without a new head; 0: never."""
    since = 0
    for state in home.ledger.rounds():
        if state.model == model and state.phase == "complete" and state.kind in ("train", "statistics"):
            since = since + 1 if state.kind == "train" else 0
    return every > 0 and since + 1 >= every


def following(home: Home, model: Model, state: Round, others: Iterable[Round], now_s: float) -> Round | None:
    """The round of statistics that follows a round which has just ended; None if none does.

    It is for the devices of that round which can gather statistics, alone or with a tail, and a candidate for release
    where one of them can judge it.

    Args:
        home: the hub's folder, opened.
        model: whose round it was.
        state: of that round.
        others: rounds that are open, whose jobs the tails have.
        now_s: the time.
    """
    refused = state.candidate and state.against and not state.released
    if state.then != "statistics" or state.phase != "complete" or not state.version or refused:
        return None
    jobs = {r["name"]: (r["hello"] or {}).get("jobs", ()) for r in home.ledger.devices()}
    devices = [s.device for s in state.seats if {"statistics", FRONT}.intersection(jobs.get(s.device, ()))]
    seats = seats_for(home, model, devices, tails_of(home, model.id, others))
    if not any(seat.state == "waiting" for seat in seats):
        return None
    halves = {SPLIT: SUMS} if any(seat.tail for seat in seats) else {}
    return Round(
        number=home.ledger.last_round() + 1,
        kind="statistics",
        versions=(state.version,),
        settings={"ranks": served_ranks(home, state.model), **halves},
        quorum=max(1, math.ceil(home.config.rounds.quorum * len(devices))),
        deadline_s=state.deadline_s,
        deadline_at_s=now_s + state.deadline_s,
        candidate=has_judges(home, seats),
        seats=seats,
        recipe=state.recipe,
        follows=state.number,
        model=state.model,
    )


def served_ranks(home: Home, model: str) -> list[int]:
    """The ranks that the boards of the fleet serve at; each prefix of a ladder makes features of its own."""
    rank = read_made(home.ledger.versions(model)[0]).version.rank
    return sorted({min(row["rank"], rank) for row in home.ledger.bundles(model)})
