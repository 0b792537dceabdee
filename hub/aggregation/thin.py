"""A thin sum: products of factors, which take no more memory than the matrix itself, however many there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.ladder import Factored, decompose, refactor

Array = NDArray[np.float64]
Factor = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """times * a @ b, as floats of any width: a [in, r], b [r, out]."""

    a: Factor
    b: Factor
    times: float = 1.0


@dataclass(frozen=True)
class Thin:
    """The sum of parts and of a dense matrix [in, out], once the parts would take more memory than that."""

    shape: tuple[int, int]
    parts: tuple[Part, ...] = ()
    dense: Array | None = None

    @property
    def columns(self) -> int:
        """How many directions the parts have together."""
        return sum(part.a.shape[1] for part in self.parts)

    def plus(self, part: Part) -> Thin:
        """The same with one more part, multiplied out if it has more numbers than the matrix itself."""
        return _bounded(self.beside(part))

    def beside(self, part: Part) -> Thin:
        """The same with one last part: nothing is multiplied out for it."""
        return replace(self, parts=(*self.parts, part))

    def merged(self, other: Thin) -> Thin:
        """The sum of two sums."""
        dense = other.dense if self.dense is None else self.dense if other.dense is None else self.dense + other.dense
        return _bounded(Thin(self.shape, (*self.parts, *other.parts), dense))

    def matrix(self) -> Array:
        """The whole sum, [in, out]."""
        left, right = self._joined()
        found: Array = left @ right
        if self.dense is not None:
            found += self.dense
        return found

    def refactored(self, rank: int, divisor: float = 1.0) -> Factored:
        """The best approximation of a rank of the sum over `divisor`, without the whole matrix where it is thin."""
        if self.dense is not None:
            whole = self.matrix()
            whole /= divisor
            return decompose(whole, rank)
        left, right = self._joined()
        left /= divisor
        return refactor(left, right, rank)

    def norm(self) -> float:
        """Its Frobenius norm."""
        if self.dense is not None:
            return float(np.linalg.norm(self.matrix()))
        return norm_of(*self._joined())

    def _joined(self) -> tuple[Array, Array]:
        """The parts side by side in float64: left [in, R], right [R, out]."""
        left, right, at = np.empty((self.shape[0], self.columns)), np.empty((self.columns, self.shape[1])), 0
        for part in self.parts:
            till = at + part.a.shape[1]
            np.multiply(part.a, part.times, out=left[:, at:till], dtype=np.float64)
            right[at:till] = part.b
            at = till
        return left, right


def norm_of(left: Array, right: Array) -> float:
    """Frobenius norm of left [in, R] @ right [R, out], from two Gram matrices [R, R]."""
    return float(np.sqrt(max(0.0, np.sum((left.T @ left) * (right @ right.T)))))


def _bounded(products: Thin) -> Thin:
    rows, columns = products.shape
    if products.columns * (rows + columns) <= rows * columns:
        return products
    return Thin(products.shape, (), products.matrix())
