"""FedYogi: as FedAdam, but the mean of squares moves by no more than the new square, up or down.

    v' = v - (1 - b2) D^2 sign(v - D^2)

Reddi et al., arXiv 2003.00295, algorithm 2; Zaheer et al., "Adaptive Methods for Nonconvex Optimization", NeurIPS 2018.
"""

from __future__ import annotations

import numpy as np

from hub.aggregation.method import Array
from hub.aggregation.optimisers.adam import stepping
from hub.aggregation.optimisers.optimiser import Optimiser


def controlled(second: Array, square: Array, beta2: float) -> Array:
    """Yogi's mean of squares."""
    moved: Array = second - (1 - beta2) * square * np.sign(second - square)
    return moved


YOGI = Optimiser("yogi", 3.0, stepping(controlled))
