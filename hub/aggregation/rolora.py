"""RoLoRA (Chen et al., arXiv 2502.01755, section 3): rounds that train B alone and rounds that train A alone.

All boards have the factor that rests, so the mean of the other is the mean of the products:

    sum_k w_k A B_k = A (sum_k w_k B_k)

With mixed ranks a board has the first directions of both; a direction is averaged by those who have it, and the rest
of its weight stays as it was sent.
"""

from __future__ import annotations

from hub.aggregation import factors
from hub.aggregation.factors import Sums
from hub.aggregation.method import Emitted, Method, Trains


def trains(nth: int) -> Trains:
    """B first, since it begins with nothing; then A, and so on.

    >>> [trains(nth) for nth in range(4)]
    ['b', 'a', 'b', 'a']
    """
    return "a" if nth % 2 else "b"


def finish(sums: Sums, rank: int, scale: float, key: int, total: float) -> Emitted:
    """The means; that of the factor that rested is what was sent."""
    return factors.published(*factors.mean(sums, total - sums.held, total), rank, scale, key)


METHOD = Method(
    "rolora",
    "nothing of the mean, but a round trains one factor only, and the first directions are not the best ones for "
    "boards of small rank",
    factors.init,
    factors.apply,
    factors.merge,
    finish,
    trains,
)
