"""FlexLoRA (Bai et al., arXiv 2402.11505, section 3.2): the mean of the boards' products, and its SVD.

    W' = sum_k w_k s_k A_k B_k

Boards take the first directions of its SVD. The sum is exact, and so is the SVD (`wire.ladder.refactor` finds it
without the whole matrix); but a board of small rank never had the directions beyond it, and counts as if it had
brought zero for them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hub.aggregation import stacking
from hub.aggregation.method import Emitted, Method
from hub.aggregation.stacking import Stack


def finish(stack: Stack, rank: int, scale: float, key: int, total: float) -> Emitted:
    """The SVD of the mean; only what all boards together leave of `total` stays as it was sent."""
    absolute = replace(stack, held=np.full(stack.sent.rank, stack.weight))
    return stacking.ladder(absolute, rank, scale, key, total)


METHOD = Method(
    "flexlora",
    "what few boards hold: directions that a board does not have count as zero, so they fade with the share of "
    "the others in every round (rank collapse)",
    stacking.init,
    stacking.apply,
    stacking.merge,
    finish,
)
