"""From weights to shares: how much each update counts. What the shares leave of 1 stays as it was sent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hub.aggregation.method import Array


@dataclass(frozen=True)
class Shares:
    """A share per update, [n], each at least 0, together at most 1; `notes` say what was decided, for people."""

    values: Array
    notes: tuple[str, ...] = ()


def by_samples(samples: list[int]) -> Shares:
    """In proportion to the rows that boards declare.

    >>> by_samples([1, 3]).values.tolist()
    [0.25, 0.75]
    """
    weights = np.asarray(samples, np.float64)
    return Shares(weights / weights.sum())
