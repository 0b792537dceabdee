"""Rounds that train one factor of LoRA: which one, for whom, and whether the other one came back as it was sent.

A board that does not know the setting `factors` of its job trains both; what it sends is refused here, since with the
resting factor moved the mean of the other one is no longer the mean of the products.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from console.errors import HubError, UsageError
from hub.aggregation.method import Method, Trains
from hub.rounds.state import Round
from hub.store.ledger import Row
from wire.kinds.lora import Lora


def with_factors(method: Method, earlier: list[Round], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a train job, with which factor learns; methods that alternate count rounds that made something.

    Raises:
        UsageError: the job's trainer cannot let a factor rest.
    """
    learns = method.trains(sum(state.kind == "train" and state.phase == "complete" for state in earlier))
    if learns == "both" or "lora" not in settings.get("kinds", ("lora",)):
        return dict(settings)
    if settings.get("trainer") == "spry":
        raise UsageError(f"expected a method that trains both factors by spry, found {method.name}; take backprop")
    return {**settings, "factors": learns}


def of_one_rank(method: Method, settings: Mapping[str, Any], devices: list[Row]) -> None:
    """Whether a method that needs one rank gets it, as far as the devices have said theirs.

    Raises:
        HubError: they have several.
    """
    own = {row["hello"]["rank"] for row in devices if row["hello"]}
    ranks = sorted({min(rank, settings.get("rank", rank)) for rank in own} - {0})
    if method.equal_ranks and len(ranks) > 1:
        raise HubError(
            f"expected devices of one rank for {method.name}, found {' and '.join(map(str, ranks))}; add "
            f"--ranks {ranks[0]}, name devices, or choose another method (`edgequilt hub methods`)"
        )


def moved(brought: Mapping[str, Lora], sent: Mapping[str, Lora], learns: Trains) -> list[str]:
    """The slots whose resting factor is not, to the bit, the beginning of what was sent; as problems."""
    if learns == "both":
        return []
    rests = "A" if learns == "b" else "B"
    return [
        f"{rests} of slot {name} was to stay as it was sent, but moved (does its agent know `factors`? update it)"
        for name, lora in brought.items()
        if name not in sent or not _same(lora, sent[name].prefix(lora.rank), rests)
    ]


def _same(one: Lora, other: Lora, factor: str) -> bool:
    pair = (one.a, other.a) if factor == "A" else (one.b, other.b)
    return one.scale == other.scale and np.array_equal(*pair)
