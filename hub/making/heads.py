"""Heads in closed form from summed statistics, where boards hold different classes: averaged heads forget.

Discriminants with a uniform prior do not mind classes of unequal size; below about 20 rows of a class their shared
covariance is no better than none. Ridge regression with high-order regularization is the other solution of the same
sums. Sums add over boards, so a head is that of the pooled rows under any split.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from console.errors import UsageError
from wire import discriminant, ridge
from wire.kinds.head import Head, Statistics
from wire.sums import mean_square, of_classes

FEW_ROWS = 20  # of a class, on average: from here on a shared covariance helps
Solver = Callable[[Statistics, float, int], Head]


def solve(sums: Statistics, head: str, strength: float, order: int) -> Head:
    """The head of some sums; at least one class must have rows.

    Args:
        sums: over the rows of all boards.
        head: a name of `SOLVERS`.
        strength: of ridge, in mean squares of a feature.
        order: of ridge.
    """
    return SOLVERS[head](sums, strength, order)


def chosen(sums: Statistics, head: str) -> str:
    """What `auto` means for some sums.

    >>> ten = Statistics(np.array([10.0, 0.0]), np.zeros((2, 1)), np.zeros((1, 1)))
    >>> chosen(ten, "auto"), chosen(ten + ten, "auto"), chosen(ten, "ridge")
    ('nearest', 'lda', 'ridge')
    """
    if head != "auto":
        return head
    seen = sums.count[sums.count > 0]
    return "nearest" if seen.size and float(np.mean(seen)) < FEW_ROWS else "lda"


def _lda(sums: Statistics, strength: float, order: int) -> Head:
    return discriminant.solve(sums)


def _nearest(sums: Statistics, strength: float, order: int) -> Head:
    return discriminant.solve(sums, shrinkage=1.0)


def _ridge(sums: Statistics, strength: float, order: int) -> Head:
    return ridge.head_of(sums, strength * mean_square(of_classes(sums)), order)


SOLVERS: dict[str, Solver] = {"lda": _lda, "ridge": _ridge, "nearest": _nearest}
HEADS = ("auto", *SOLVERS)


def known(head: str) -> None:
    """Check the name of a head.

    Raises:
        UsageError: there is none of that name.
    """
    if head not in HEADS:
        raise UsageError(f"expected a head among {', '.join(HEADS)}, found {head!r}; see docs/aggregation.md")
