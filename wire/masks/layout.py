"""What stands where in a vector under masks: parts by name and shape, one after another, row by row.

The first number of every vector is 1, so that the sum says over how many boards it is; masks that did not cancel
would show there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from wire.kinds.head import Statistics, names, square, triangle

Array = NDArray[np.float64]
ONE = "one"


@dataclass(frozen=True)
class Layout:
    """Parts in order."""

    parts: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size(self) -> int:
        """How many numbers."""
        return 1 + sum(math.prod(shape) for _, shape in self.parts)

    @property
    def bytes(self) -> int:
        """Of a masked vector: 8 for each number, little-endian."""
        return 8 * self.size

    def flat(self, arrays: Mapping[str, Array]) -> Array:
        """The vector [size] of some arrays, with a 1 before it."""
        return np.concatenate([np.ones(1), *(np.asarray(arrays[n], np.float64).reshape(-1) for n, _ in self.parts)])

    def split(self, vector: Array, boards: int) -> dict[str, Array]:
        """The arrays of a sum over so many boards.

        Raises:
            BadData: it is a sum over others.
        """
        if vector[0] != boards:
            raise BadData(
                f"expected the sum of {boards} boards under masks, found what masks do not cancel in; one of them sent "
                f"what is no masked update: open another round, without boards that you do not trust"
            )
        found, at = {}, 1
        for name, shape in self.parts:
            found[name] = vector[at : at + math.prod(shape)].reshape(shape)
            at += math.prod(shape)
        return found


def of_statistics(ranks: tuple[int, ...], classes: int, features: int) -> Layout:
    """The vector of sums at some ranks.

    >>> of_statistics((0,), 2, 3).size
    15
    """
    shapes = (classes,), (classes, features), (features * (features + 1) // 2,)
    return Layout(tuple(part for r in sorted(set(ranks)) for part in zip(names("statistics", r), shapes, strict=True)))


def from_statistics(found: Mapping[int, Statistics]) -> dict[str, Array]:
    """Sums as arrays by name."""
    return {
        name: part
        for rank, sums in found.items()
        for name, part in zip(names("statistics", rank), (sums.count, sums.sum, triangle(sums.gram)), strict=True)
    }


def to_statistics(arrays: Mapping[str, Array], ranks: tuple[int, ...]) -> dict[int, Statistics]:
    """Arrays by name as sums."""
    found = {}
    for rank in sorted(set(ranks)):
        count, total, upper = (arrays[name] for name in names("statistics", rank))
        found[rank] = Statistics(np.rint(count), total, square(upper, total.shape[1]))
    return found
