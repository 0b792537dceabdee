"""FFA-LoRA (arXiv 2403.12313) with boards of unequal rank: board k trains B against the first r_k columns of one A.

    sum_k w_k A[:, :r_k] B_k = A (sum_k w_k pad(B_k))

It is exact and linear with mixed ranks. A direction that only some boards have is theirs by their weight; the rest of
its weight stays as it was sent, where the plain formula has zero, so that it does not fade.
"""

from __future__ import annotations

from hub.aggregation import factors
from hub.aggregation.ffa import apply_stale, means_of_b, only_b
from hub.aggregation.method import Method

METHOD = Method(
    "nested-ffa",
    "nothing of the mean, but all that can be learned lies in the span of an A that was drawn once, and the first "
    "directions, which all boards have, are not the best ones",
    factors.init,
    factors.apply,
    factors.merge,
    means_of_b,
    only_b,
    apply_stale=apply_stale,
)
