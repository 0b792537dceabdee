"""Zero-padding: factors of unequal rank are filled up with zeros to one rank, and then averaged as in FedIT.

The baseline of HetLoRA (Cho et al., arXiv 2401.06432, section 3). Boards take the first of the result.
"""

from __future__ import annotations

from hub.aggregation import factors
from hub.aggregation.factors import Sums
from hub.aggregation.method import Emitted, Method


def finish(sums: Sums, rank: int, scale: float, key: int, total: float) -> Emitted:
    """The means; a board counts in every direction, with zero where it has none."""
    return factors.published(*factors.mean(sums, total - sums.weight, total), rank, scale, key)


METHOD = Method(
    "zero-pad",
    "what the mean of factors loses, and what few boards hold: a direction that a board does not have counts as "
    "zero in A and in B, so it fades with the square of their share in every round",
    factors.init,
    factors.apply,
    factors.merge,
    finish,
)
