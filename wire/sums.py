"""Sums over rows from which a linear head is solved: they add over boards, and rows can be taken out again.

Products of features on a grid are multiples of the grid squared, and float64 holds whole numbers up to 2^53: so sums
of rows on a grid (`on_grid`) are exact, bit for bit in any order, and a row that was removed leaves no trace.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from wire.kinds.head import Statistics, square, triangle

Float64 = NDArray[np.float64]
Array = NDArray[np.float32]
BLOCK_ROWS = 256  # held in float64 at once
PARTS = ("upper", "right", "squares")


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over rows; z is a row of features with a 1 behind it.

    Attributes:
        upper: float64 [(features + 1) (features + 2) / 2], the upper triangle of sum z zT row by row; its last
            entry is the count of rows.
        right: float64 [features + 1, outputs], sum z yT.
        squares: float64 [outputs], sum y^2.
    """

    upper: Float64
    right: Float64
    squares: Float64

    @property
    def rows(self) -> int:
        """How many rows."""
        return round(float(self.upper[-1]))

    @property
    def features(self) -> int:
        """How many features."""
        return len(self.right) - 1

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.upper + other.upper, self.right + other.right, self.squares + other.squares)

    def __sub__(self, other: Sums) -> Sums:
        """Without rows that are among these.

        Raises:
            BadData: there are more of them.
        """
        if other.rows > self.rows:
            raise BadData(f"expected at most {self.rows} rows to remove, found {other.rows}; remove what was added")
        return Sums(self.upper - other.upper, self.right - other.right, self.squares - other.squares)


def empty(features: int, outputs: int) -> Sums:
    """Sums over no rows.

    >>> empty(3, 2).rows
    0
    """
    return Sums(np.zeros((features + 1) * (features + 2) // 2), np.zeros((features + 1, outputs)), np.zeros(outputs))


def gather(features: Array, targets: Float64) -> Sums:
    """Sums over rows: features [n, features], targets [n, outputs].

    >>> gather(np.ones((3, 1), np.float32), np.array([[1.0], [2.0], [3.0]])).upper.tolist()
    [3.0, 3.0, 3.0]
    """
    sums = empty(features.shape[1], targets.shape[1])
    for start in range(0, len(features), BLOCK_ROWS):
        rows = features[start : start + BLOCK_ROWS]
        z = np.hstack([rows.astype(np.float64), np.ones((len(rows), 1))])
        y = targets[start : start + BLOCK_ROWS].astype(np.float64)
        sums = sums + Sums(triangle(z.T @ z), z.T @ y, np.sum(y * y, axis=0))
    return sums


def of_classes(statistics: Statistics) -> Sums:
    """Sums over rows whose target is 1 for their class and 0 else, from a head's statistics."""
    count, by_class = statistics.count, statistics.sum
    total = by_class.sum(axis=0)[:, None]
    gram = np.block([[statistics.gram, total], [total.T, np.full((1, 1), count.sum())]])
    return Sums(triangle(gram), np.vstack([by_class.T, count]), count.copy())


def on_grid(features: Array, step: float) -> Array:
    """Features rounded to multiples of a power of two.

    Raises:
        ValueError: the step is no power of two.

    >>> on_grid(np.array([0.3, -0.7], np.float32), 0.25).tolist()
    [0.25, -0.75]
    """
    if step <= 0 or math.frexp(step)[0] != 0.5:
        raise ValueError(f"expected a step that is a power of two, found {step}")
    return np.asarray(np.rint(features / np.float32(step)) * np.float32(step), np.float32)


def exact_rows(largest: float, step: float) -> int:
    """So many rows at least add up without rounding: features up to `largest` on a grid of `step`.

    Their products are multiples of step^2, and float64 holds every whole number up to 2^53.

    >>> exact_rows(16.0, 2.0**-12)
    2097152
    """
    return int(2.0**53 * step**2 / max(largest, step) ** 2)


def mean_square(sums: Sums) -> float:
    """The mean diagonal entry of A before centring: strengths are multiples of it."""
    size = sums.features
    return float(np.trace(square(sums.upper, size + 1)[:size, :size])) / max(size, 1)


def packed(sums: Sums) -> dict[str, NDArray[Any]]:
    """Sums as arrays by name."""
    return {part: getattr(sums, part) for part in PARTS}


def unpacked(arrays: Mapping[str, NDArray[Any]]) -> Sums:
    """Arrays by name as sums."""
    return Sums(*(arrays[part] for part in PARTS))
