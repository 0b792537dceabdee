"""How a private round begins: refused or drawn, accounted for, and with the secret of its noise in the journal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from console.errors import HubError
from hub.privacy.promise import held, promise
from hub.privacy.refusals import refuse
from hub.privacy.sampling import drawn
from hub.rounds.state import Round, Seat
from hub.store.registry import Home
from wire.messages import ability


def private_round(home: Home, state: Round) -> Round:
    """The round as it is to be opened: with its promise, and where a sample is asked, with the boards that were drawn.

    Args:
        home: the hub's folder, opened.
        state: the round, with the boards that are there.

    Raises:
        UsageError: something about it does not go together with the promise.
        HubError: the budget does not allow it, or the draw chose nobody.
    """
    told = home.config.privacy
    refuse(state, told)
    boards = [s.device for s in state.seats] if told.sampling == "all" else able(home, state)
    chosen, divisor = drawn(boards, told)
    if not chosen:
        raise HubError("expected the draw to choose somebody, found that it chose nobody; open the round again")
    promised = promise(told, held(home, open_too=True), len(boards), divisor)
    quorum = max(1, math.ceil(home.config.rounds.quorum * len(chosen)))
    return replace(state, seats=tuple(Seat(name) for name in chosen), quorum=quorum, private=promised)


def able(home: Home, state: Round) -> Sequence[str]:
    """The boards that a sample is drawn from: all of the model that can do such a job, online or not."""
    job = ability(state.kind, state.settings)
    rows = [row for row in home.ledger.devices() if row["model"] in ("", state.model)]
    found = [row["name"] for row in rows if job in (row["hello"] or {}).get("jobs", ())]
    if not found:
        raise HubError(f"expected a device that can {job}, found none of {len(rows)}; start their agents")
    return found
