"""How arrays lie along a stream of signs: `wire.philox` makes the signs, here is which entry takes which.

The arrays of a unit are laid end to end in the order of their names, each row by row. A unit has a key of its own,
made of the round's key, the unit's name and the board: who knows these rebuilds a unit's directions whatever other
units the board held.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wire.philox import key_of, replay

Array = NDArray[np.float32]
Arrays = Mapping[str, Array]
Units = Mapping[str, Sequence[str]]  # a unit's name: the names of its arrays
Pairs = list[tuple[int, float]]  # (counter, scalar), the scalar a float32 number


def unit_key(key: int, unit: str, board: int) -> int:
    """The Philox key of a unit's directions on a board.

    >>> unit_key(1, "layer.0", 0) != unit_key(1, "layer.0", 1)
    True
    """
    return key_of(f"{key:032x}", unit, board)


def combined(key: int, board: int, pairs: Pairs, units: Units, like: Arrays) -> dict[str, Array]:
    """The sum of scalar x direction over the pairs, for every array of the units.

    Args:
        key: of the round.
        board: whose directions.
        pairs: (counter, scalar), in the order of the sum.
        units: which arrays belong together.
        like: arrays of the same shapes.

    >>> out = combined(7, 0, [(0, 1.0), (1, 1.0)], {"u": ["a"]}, {"a": np.zeros((2, 3), np.float32)})
    >>> out["a"].shape, sorted(set(np.abs(out["a"]).ravel().tolist()) | {0.0, 2.0})
    ((2, 3), [0.0, 2.0])
    """
    made: dict[str, Array] = {}
    for unit, names in units.items():
        ordered = sorted(names)
        sizes = [math.prod(like[name].shape) for name in ordered]
        flat = replay(unit_key(key, unit, board), pairs, (sum(sizes),))
        ends = np.cumsum([0, *sizes])
        made |= {n: flat[a:b].reshape(like[n].shape) for n, a, b in zip(ordered, ends[:-1], ends[1:], strict=True)}
    return made
