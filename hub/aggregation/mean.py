"""FedIT (Zhang et al., arXiv 2305.05644, section 3): the weighted mean of A and that of B, for boards of one rank.

    A' = sum_k w_k A_k,  B' = sum_k w_k B_k

The product of means is not the mean of products: what is lost is sum_k w_k (A_k - A') (B_k - B'). Directions beyond
the boards' rank stay as they were sent.
"""

from __future__ import annotations

from console.errors import HubError
from hub.aggregation import factors
from hub.aggregation.factors import Sums
from hub.aggregation.method import Emitted, Method


def finish(sums: Sums, rank: int, scale: float, key: int, total: float) -> Emitted:
    """The means.

    Raises:
        HubError: boards of several ranks.
    """
    of_one_rank(sums, "zero-pad")
    return factors.published(*factors.mean(sums, total - sums.held, total), rank, scale, key)


def of_one_rank(sums: Sums, other: str) -> None:
    """Refuse boards of several ranks; `other` is the method that takes them.

    Raises:
        HubError: naming the ranks.
    """
    if len(sums.ranks) > 1:
        found = " and ".join(map(str, sorted(sums.ranks)))
        raise HubError(
            f"expected boards of one rank, found {found}; open the round with --ranks {min(sums.ranks)}, or with "
            f"--aggregate {other}"
        )


METHOD = Method(
    "mean",
    "how A and B vary together over the boards: the mean of A times the mean of B is not the mean of A B",
    factors.init,
    factors.apply,
    factors.merge,
    finish,
    equal_ranks=True,
)
