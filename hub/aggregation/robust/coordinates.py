"""Rules that look at each number by itself: the coordinate-wise median and the trimmed mean.

Yin, Chen, Kannan, Bartlett: "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", arXiv
1803.01498, definitions 1 and 2; here with shares. They need whole matrices of changes, a block of rows at a time
(hub.aggregation.blocks). A board of small rank has no change in the directions that it lacks, and votes for none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hub.aggregation.method import Array
from hub.aggregation.robust.rule import Bounds

ROUNDING = 1e-12


@dataclass(frozen=True)
class ByNumbers:
    """One rule.

    Attributes:
        name: how people choose it.
        least: bounds -> how many updates it needs.
        reduce: (numbers of all updates [n, ...], weights [n], bounds) -> numbers [...].
    """

    name: str
    least: Callable[[Bounds], int]
    reduce: Callable[[Array, Array, Bounds], Array]


def median(stack: Array, weights: Array, bounds: Bounds) -> Array:
    """The weighted median over the first axis; the mean of two where exactly half of the weight is on either side.

    >>> median(np.array([[1.0], [2.0], [50.0]]), np.ones(3), Bounds()).tolist()
    [2.0]
    """
    values, below = _sorted(stack, weights)
    below = np.cumsum(below, axis=0) / weights.sum()
    low, high = (np.argmax(below > 0.5 + side * ROUNDING, axis=0)[None] for side in (-1, 1))
    middle: Array = (np.take_along_axis(values, low, 0)[0] + np.take_along_axis(values, high, 0)[0]) / 2
    return middle


def trimmed_mean(stack: Array, weights: Array, bounds: Bounds) -> Array:
    """The weighted mean over the first axis without the `bounds.bad` smallest and the `bounds.bad` largest numbers.

    >>> trimmed_mean(np.array([[-9.0], [1.0], [3.0], [50.0]]), np.ones(4), Bounds(bad=1)).tolist()
    [2.0]
    """
    values, kept = _sorted(stack, weights)
    inner = slice(bounds.bad, len(stack) - bounds.bad)
    mean: Array = (values[inner] * kept[inner]).sum(axis=0) / kept[inner].sum(axis=0)
    return mean


MEDIAN = ByNumbers("median", lambda bounds: 3, median)
TRIMMED_MEAN = ByNumbers("trimmed-mean", lambda bounds: 2 * bounds.bad + 1, trimmed_mean)


def _sorted(stack: Array, weights: Array) -> tuple[Array, Array]:
    """The numbers in order along the first axis, and the weight of each."""
    order = np.argsort(stack, axis=0, kind="stable")
    return np.take_along_axis(stack, order, 0), weights[order]
