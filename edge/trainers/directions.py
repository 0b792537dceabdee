"""What trainers along directions have in common: steps to both sides, and what a state holds of directions.

Which entry of an array takes which sign is said in `wire.directions`, which hubs know as well.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.trainers.interface import Array, Arrays, State
from wire.directions import Pairs, Units


def moved(arrays: Arrays, direction: Arrays, by: float) -> dict[str, Array]:
    """Arrays + by x direction, where there is one.

    >>> one = np.ones(2, np.float32)
    >>> moved({"a": one, "b": one}, {"a": one}, -0.5)["a"].tolist()
    [0.5, 0.5]
    """
    return {name: a + np.float32(by) * direction[name] if name in direction else a for name, a in arrays.items()}


def size(units: Units, like: Arrays) -> int:
    """Entries of all units.

    >>> size({"u": ["a"], "v": ["b"]}, {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float32)})
    10
    """
    return sum(math.prod(like[name].shape) for names in units.values() for name in names)


def kept(counter: int, pairs: Pairs) -> dict[str, NDArray[Any]]:
    """What a state holds of directions: the next counter, and the pairs that were applied.

    >>> kept(2, [(0, 0.5), (1, -1.0)])["pairs/scalar"].tolist()
    [0.5, -1.0]
    """
    return {
        "counter": np.asarray(counter, np.uint64),
        "pairs/counter": np.array([c for c, _ in pairs], np.uint64),
        "pairs/scalar": np.array([d for _, d in pairs], np.float32),
    }


def applied(state: State) -> Pairs:
    """The pairs of a state.

    >>> applied(kept(2, [(0, 0.5), (1, -1.0)]))
    [(0, 0.5), (1, -1.0)]
    """
    return [(int(c), float(d)) for c, d in zip(state["pairs/counter"], state["pairs/scalar"], strict=True)]
