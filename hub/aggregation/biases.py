"""Changes of biases (wire.kinds.bias) are linear, so their weighted mean is exact.

What the boards that brought a bias leave of 1 stays as it was sent: delta' = sum_k w_k delta_k + (1 - sum_k w_k) sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.aggregation.method import Array

Sent = NDArray[np.float32]


@dataclass(frozen=True)
class Mean:
    """The sum so far, [out], and the weight of who brought it."""

    total: Array
    held: float


def apply(states: dict[str, Mean], brought: dict[str, Sent], weight: float) -> dict[str, Mean]:
    """Add what one board brought."""
    made = dict(states)
    for name, delta in brought.items():
        old = made.get(name, Mean(np.zeros(delta.shape), 0.0))
        made[name] = Mean(old.total + weight * delta.astype(np.float64), old.held + weight)
    return made


def merge(one: dict[str, Mean], other: dict[str, Mean]) -> dict[str, Mean]:
    """The sum of two sums over different boards."""
    made = dict(one)
    for name, mean in other.items():
        made[name] = Mean(made[name].total + mean.total, made[name].held + mean.held) if name in made else mean
    return made


def finish(states: dict[str, Mean], sent: dict[str, Sent]) -> dict[str, Sent]:
    """The biases of the next version; shares together are at most 1.

    >>> half = apply({}, {"a": np.array([2.0], np.float32)}, 0.5)
    >>> finish(half, {"a": np.array([1.0], np.float32)})["a"].tolist()
    [1.5]
    """
    made = dict(sent)
    for name, mean in states.items():
        rest = (1.0 - mean.held) * sent[name].astype(np.float64) if name in sent else 0.0
        made[name] = np.asarray(mean.total + rest, np.float32)
    return made
