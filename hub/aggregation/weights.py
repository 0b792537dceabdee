"""How much each board counts before any rule looks at what it sent: by rows, by risk, or all alike.

Boards declare their rows and their loss themselves, so what one declares counts at most as some multiple of the
median of all. By risk as in q-FFL (Li, Sanjabi, Beirami, Smith: "Fair Resource Allocation in Federated Learning",
arXiv 1905.10497, equation 2): its gradient is the sum of those of the boards, each times rows and F^q, F the board's
loss at what it was sent. The step is that of a mean (weights sum to 1), not that of q-FedAvg's algorithm 1, whose
bound on the curvature supposes plain gradient steps on boards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hub.aggregation.method import Array

WEIGHTS = ("samples", "risk", "uniform")
SMALLEST_LOSS = 1e-10  # as in the paper's code: a board without loss keeps a weight


def uniform(count: int) -> Array:
    """All alike."""
    return np.ones(count)


def samples(rows: Sequence[int]) -> Array:
    """By declared rows."""
    return np.asarray(rows, np.float64)


def risk(rows: Sequence[int], losses: Sequence[float | None], power: float) -> Array:
    """By declared rows and declared loss to a power; who declares none (or no number of 0 or more) has the median.

    >>> risk([1, 1, 2], [1.0, 3.0, None], 1.0).tolist()
    [1.0, 3.0, 4.0]
    """
    known = [loss for loss in losses if _is_loss(loss)]
    usual = float(np.median(np.array(known, np.float64))) if known else 1.0
    found = np.array([loss if _is_loss(loss) else usual for loss in losses], np.float64)
    return samples(rows) * np.maximum(found, SMALLEST_LOSS) ** power


def capped(weights: Array, multiple: float) -> Array:
    """None above a multiple of the median; 0 means no limit.

    >>> capped(np.array([1.0, 2.0, 900.0]), 10.0).tolist()
    [1.0, 2.0, 20.0]
    """
    return np.minimum(weights, multiple * float(np.median(weights))) if multiple else weights


def _is_loss(loss: float | None) -> bool:
    return isinstance(loss, (int, float)) and bool(np.isfinite(loss)) and loss >= 0
