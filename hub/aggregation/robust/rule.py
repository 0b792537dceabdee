"""What a robust rule is: a pure function of the Gram matrix of changes and of shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hub.aggregation.method import Array
from hub.aggregation.shares import Shares


@dataclass(frozen=True)
class Bounds:
    """The numbers of rules.

    Attributes:
        bad: how many boards may be bad.
        clip: the longest change, as a Frobenius norm over all slots, or as a multiple of the median of all lengths.
        cosine: the smallest cosine with the middle of all changes.
    """

    bad: int = 1
    clip: float = 1.0
    cosine: float = 0.0


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: how people choose it.
        pairs: whether it needs all inner products, or only lengths (the diagonal; the rest is then NaN).
        least: bounds -> how many updates it needs.
        apply: (gram [n, n], shares, bounds) -> shares.
    """

    name: str
    pairs: bool
    least: Callable[[Bounds], int]
    apply: Callable[[Array, Shares, Bounds], Shares]


def lengths(gram: Array) -> Array:
    """The lengths of changes, [n]."""
    found: Array = np.sqrt(np.maximum(np.diagonal(gram), 0.0))
    return found


def squared_distances(gram: Array) -> Array:
    """|D_i - D_j|^2, [n, n].

    >>> squared_distances(np.array([[1.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.0, 5.0], [5.0, 0.0]]
    """
    squares = np.diagonal(gram)
    return np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0.0)
