"""Clipping of boards in product space: no board changes the mean by more than clip / n.

A board's change, over all slots and biases together, longer than `clip` counts with the share that makes it as long
as `clip`. What shares leave of 1 stays as it was sent, so a share less is a shorter change and nothing else
(McMahan et al., "Learning Differentially Private Recurrent Language Models", arXiv 1710.06963, algorithm 1, in
product space). n is fixed before anybody answers: a sum divided by how many answered has another sensitivity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from hub.aggregation.products import change, norm
from hub.aggregation.shares import Shares
from wire.adapter import Adapter
from wire.kinds.lora import Lora

SLACK = 1e-9  # so that rounding never makes a clipped change longer than the clip


def of_product(trained: Lora, sent: Lora) -> float:
    """The length of the change of a product."""
    return norm(change(trained, sent))


def of_b(trained: Lora, sent: Lora) -> float:
    """The length of the change of B times scale, where A stays as it is whatever a board sends of it."""
    b, began = trained.b.astype(np.float64), sent.prefix(trained.rank).b.astype(np.float64)
    return float(np.linalg.norm(trained.scale * b - sent.scale * began))


def length(
    trained: Adapter,
    ladder: Mapping[str, Lora],
    biases: Mapping[str, NDArray[np.float32]],
    of: Callable[[Lora, Lora], float] = of_product,
) -> float:
    """The Frobenius norm of all that a board changed.

    Args:
        trained: what it sent.
        ladder: what it started from, by slot, whole.
        biases: what it started from.
        of: the length of what it changed of a slot, from its factors and those of the ladder.
    """
    squares = [of(factors, ladder[name]) ** 2 for name, factors in trained.lora.items()]
    for name, delta in trained.bias.items():
        moved = delta.astype(np.float64) - biases.get(name, np.zeros(delta.shape))
        squares.append(float(np.sum(moved * moved)))
    return math.sqrt(sum(squares))


def clipped(lengths: list[float], clip: float, divisor: float) -> Shares:
    """The shares of some boards with changes of these lengths.

    >>> clipped([0.0, 0.5, 4.0], 1.0, 2.0).values.round(6).tolist()
    [0.5, 0.5, 0.125]
    """
    factors = [min(1.0, clip * (1 - SLACK) / found) if found > 0 else 1.0 for found in lengths]
    return Shares(np.array(factors) / divisor)
