"""A round that promises something: who is asked, what it will have spent, and the secret of its noise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from sqlalchemy import Connection

from console.errors import HubError
from hub.privacy.accountant import epsilon
from hub.privacy.settings import PrivacyConfig, Private
from hub.store.ledger import Row
from hub.store.registry import Home
from hub.store.writes import put

RELATIONS = ("poisson", "fixed")
NO_BOARD = ("evaluate", "fix")  # rounds whose versions hold nothing that a board learned
LAST = "noise"  # where the ledger keeps the number of the last private round


def promise(told: PrivacyConfig, before: Sequence[Private], population: int, divisor: float) -> Private:
    """What a round will promise and have spent.

    Args:
        told: the settings of the hub.
        before: the private rounds that have made a version.
        population: how many boards could have been asked.
        divisor: n, see `Private`.

    Raises:
        HubError: the budget does not allow it, or it cannot be added to what was spent before.
    """
    if told.delta * population >= 1:
        raise HubError(
            f"expected privacy.delta below 1 / {population}, one over the number of boards, found {told.delta:g}: it "
            f"would allow to publish all that a board has; lower it"
        )
    mixed = {one.sampling for one in before if one.sampling in RELATIONS} - {told.sampling}
    if mixed and told.sampling in RELATIONS:
        raise HubError(
            f'expected privacy.sampling = "{mixed.pop()}" as in earlier rounds, found "{told.sampling}": what both '
            f"spend does not add up; keep one of them"
        )
    one = Private(told.noise, told.clip, told.delta, told.sampling, population, divisor)
    spent = epsilon([*before, one], told.delta)
    if not math.isfinite(spent):
        raise HubError(
            f"expected rounds that promise something, found that no epsilon holds at privacy.delta = {told.delta:g}; "
            f"raise privacy.noise or privacy.rate"
        )
    if told.budget and spent > told.budget:
        raise HubError(
            f"expected to stay within privacy.budget = {told.budget:g}, found that this round would bring what is "
            f"spent to epsilon {spent:.3g} (delta {told.delta:g}); more noise or fewer boards per round spend less"
        )
    return dataclasses.replace(one, epsilon=epsilon([one], told.delta), spent=spent)


def held(home: Home, open_too: bool = False) -> list[Private]:
    """The private rounds that made a version, in order: what is spent is what they spent.

    With `open_too` those that may yet make one, of another model, are counted as well.
    """
    return [
        one.private
        for one in home.ledger.rounds()
        if one.private is not None and (one.version or (open_too and one.is_open))
    ]


def summary(home: Home) -> Row | None:
    """What is promised and spent, for people; None where nothing ever was."""
    told = home.config.privacy
    if not told.noise and not home.ledger.get(LAST):
        return None
    rounds = held(home)
    open_rounds = [r for r in home.ledger.rounds() if r.version and r.private is None and r.kind not in NO_BOARD]
    return {
        "epsilon": max((one.spent for one in rounds), default=0.0),
        "delta": told.delta,
        "budget": told.budget or None,
        "rounds": len(rounds),
        "rounds_without_noise": len(open_rounds),
    }


def said(private: Private) -> str:
    """What a version's round promises, for people."""
    return (
        f"private: epsilon {private.epsilon:.3g} (delta {private.delta:g}), {private.spent:.3g} spent in all; noise of "
        f"{private.deviation:.3g} on each number"
    )


def put_secret(tx: Connection, number: int, secret: str) -> None:
    """Keep the secret of a round's noise; to be committed together with its opening."""
    put(tx, secret_key(number), secret)
    put(tx, LAST, str(number))


def secret_key(number: int) -> str:
    """Where the ledger keeps the secret of a round's noise.

    >>> secret_key(7)
    'noise/7'
    """
    return f"noise/{number}"
