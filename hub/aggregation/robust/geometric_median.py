"""The geometric median: the point whose distances to all updates, times their shares, have the smallest sum.

Pillutla, Kakade, Harchaoui: "Robust Aggregation for Federated Learning" (RFA), arXiv 1912.13445, algorithm 2: the
smoothed Weiszfeld algorithm. The median is a weighted mean of the updates, so its weights are all that is sought, and
the Gram matrix all that is needed. It holds as long as bad boards have less than half of all shares.
"""

from __future__ import annotations

import numpy as np

from hub.aggregation.method import Array
from hub.aggregation.robust.rule import Bounds, Rule, lengths
from hub.aggregation.shares import Shares, trusted

STEPS = 1000
SMOOTHING = 1e-6  # of the median length: the distance below which all distances are alike
CLOSE = 1e-10


def centre(gram: Array, weights: Array) -> Array:
    """The weights of the geometric median, [n], together 1.

    >>> centre(np.diag([1.0, 1.0]), np.array([0.5, 0.5])).tolist()
    [0.5, 0.5]
    """
    smallest = SMOOTHING * float(np.median(lengths(gram)))
    at: Array = weights / weights.sum()
    for _ in range(STEPS):
        towards = gram @ at
        squares = np.diagonal(gram) - 2 * towards + float(at @ towards)
        distances = np.maximum(np.sqrt(np.maximum(squares, 0.0)), smallest)
        if not distances.all():  # all that has a share lies on one point
            return at
        after: Array = weights / distances
        after /= after.sum()
        if float(np.abs(after - at).max()) < CLOSE:
            return after
        at = after
    return at


def geometric_median(gram: Array, shares: Shares, bounds: Bounds) -> Shares:
    """Shares that make the mean the geometric median."""
    found = centre(gram, shares.values)
    return trusted(shares, np.divide(found, shares.values, out=np.zeros_like(found), where=shares.values > 0))


RULE = Rule("geometric-median", True, lambda bounds: 3, geometric_median)
