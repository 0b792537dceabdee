"""What boards of any rank add up where A rests and B learns (FFA-LoRA): the change of B, direction by direction.

    sum_k w_k ((s_k / s) B_k - B[:r_k]), padded with zeros to one width; held = sum_k w_k [r < r_k]; sum_k w_k

That is all that hub.aggregation.ffa needs, so single factors are of no use to it. w_k is 1, or the board's rows up to
a limit that the hub declares. The change is cut to [-clip, clip], number by number, so that the sum has a bound.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wire.kinds.lora import Lora
from wire.masks.layout import Layout
from wire.masks.told import Told

HELD, WEIGHT, ROWS = "held", "weight", "rows"


def layout(outputs: Mapping[str, int], width: int) -> Layout:
    """The vector for slots of so many outputs each.

    >>> layout({"query": 6}, 2).size
    17
    """
    slots = tuple((name, (width, outputs[name])) for name in sorted(outputs))
    return Layout((*slots, (HELD, (width,)), (WEIGHT, ()), (ROWS, ())))


def arrays(
    trained: Mapping[str, Lora], started: Mapping[str, Lora], rows: int, told: Told
) -> dict[str, NDArray[np.float64]]:
    """What one board adds to the sum.

    Args:
        trained: its factors, all of one rank.
        started: the prefix that it began with.
        rows: that it learned from.
        told: the terms.
    """
    weight, counted = weights(rows, told)
    found: dict[str, NDArray[np.float64]] = {}
    rank = 0
    for name, made in trained.items():
        began, rank = started[name], min(made.rank, told.width)
        change = np.zeros((told.width, made.b.shape[1]))
        moved = made.scale / began.scale * made.b[:rank].astype(np.float64) - began.b[:rank].astype(np.float64)
        change[:rank] = weight * np.clip(moved, -told.clip, told.clip)
        found[name] = change
    held = np.where(np.arange(told.width) < rank, weight, 0.0)
    return {**found, HELD: held, WEIGHT: np.asarray(weight), ROWS: np.asarray(counted)}


def weights(rows: int, told: Told) -> tuple[float, float]:
    """What a board counts by, and the rows that it says, each as far as there is room for them.

    >>> terms = {"threshold": 2, "boards": 3, "bound": 100.0, "fraction_bits": 8}
    >>> weights(50, Told(**terms, rows=20)), weights(50, Told(**terms))
    ((20.0, 20.0), (1.0, 50.0))
    """
    if told.rows:
        return float(min(rows, told.rows)), float(min(rows, told.rows))
    return 1.0, float(min(rows, told.bound))
