"""FFA-LoRA (Sun et al., arXiv 2403.12313, section 4): A is drawn once and stays, boards of one rank train B.

    sum_k w_k A B_k = A (sum_k w_k B_k)

A is what the versions carry, drawn from a seed by version 0 (`wire.ladder.spare_columns`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hub.aggregation import factors
from hub.aggregation.factors import Sums
from hub.aggregation.mean import of_one_rank
from hub.aggregation.method import Emitted, Method, Trains
from wire.kinds.lora import Lora


def only_b(nth: int) -> Trains:
    """B learns in every round."""
    return "b"


def apply_stale(sums: Sums, base: Lora, trained: Lora, weight: float) -> Sums:
    """Add what one board changed of B since `base`, its prefix of an older version; A is the same in all versions."""
    r, b = trained.rank, sums.b.copy()
    change = trained.scale * trained.b.astype(np.float64) - base.scale * base.b.astype(np.float64)
    b[:r] += weight / sums.sent.scale * change
    return replace(sums, b=b, weight=sums.weight + weight, ranks=sums.ranks | {r})


def finish(sums: Sums, rank: int, scale: float, key: int, total: float) -> Emitted:
    """The mean of B.

    Raises:
        HubError: boards of several ranks.
    """
    of_one_rank(sums, "nested-ffa")
    return means_of_b(sums, rank, scale, key, total)


def means_of_b(sums: Sums, rank: int, scale: float, key: int, total: float) -> Emitted:
    """A as it was sent, to the bit, and the mean of B over those who have a direction and what was sent."""
    _, b = factors.mean(sums, total - sums.held, total)
    return factors.published(sums.sent.a.astype(np.float64), b, rank, scale, key)


METHOD = Method(
    "ffa",
    "nothing of the mean, but all that can be learned lies in the span of an A that was drawn once",
    factors.init,
    factors.apply,
    factors.merge,
    finish,
    only_b,
    equal_ranks=True,
    apply_stale=apply_stale,
)
