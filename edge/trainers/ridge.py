"""A linear head in closed form, from sums over rows: no learning rate, no steps, and a sample can be taken out again.

Ridge regression (Hoerl and Kennard, Technometrics 1970) is the lowest order of what Liu and Cao describe in
"High-order Regularization for Machine Learning and Learning-based Control", arXiv 2505.08129: with A = sum x xT and
b = sum x yT over centred rows, R = mu I and M = (A + R)^-1, order k keeps k + 1 terms of the series of A^-1

    B_k = sum_{i=0..k} (M R)^i M b        so        B_inf - B_k = (M R)^(k+1) B_inf

which is iterated Tikhonov regularization, B <- B + M (b - A B), begun at 0 (derived; the paper's own notation was
not at hand). In the eigenvectors of A each direction is solved on its own, and one decomposition serves every mu and
every k: with eigenvalue l it gets (1 - (mu / (l + mu))^(k+1)) / l. Higher orders help where mu is too large and hurt
where it is too small: choose both on rows kept back (`choose`), which needs their sums only.

What it knows of rows are sums that add over boards and can be taken apart again (`edge.trainers.sums`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.trainers.interface import Additive, Arrays, Needs, Rows, State, Stepped
from edge.trainers.sums import Float64, Sums, empty, gather, on_grid, packed, unpacked
from wire.kinds.head import square


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Centred sums in the eigenvectors of A: what every mu and every order need.

    Attributes:
        eigenvalues: float64 [features], rising, not below 0.
        vectors: float64 [features, features], a column each.
        projected: float64 [features, outputs], b in these vectors.
        mean: float64 [features], of the features; 0 without an intercept.
        target: float64 [outputs], the mean of the targets; 0 without an intercept.
    """

    eigenvalues: Float64
    vectors: Float64
    projected: Float64
    mean: Float64
    target: Float64


@dataclass(frozen=True)
class Ridge:
    """A trainer of heads; its state and its update are the sums `upper`, `right` and `squares`.

    Attributes:
        features: how many.
        outputs: how many; for classes, targets are 1 for a row's class and 0 else.
        grid: features are rounded to multiples of it, a power of two, so that sums are exact; 0: as they are.
    """

    features: int
    outputs: int
    grid: float = 2.0**-12

    @property
    def needs(self) -> Needs:
        """One run of the feature graph."""
        return "features"

    def slower(self, share: float) -> Ridge:
        """The same: there is no rate."""
        return self

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Sums over no rows; the arrays are not looked at."""
        return packed(empty(self.features, self.outputs))

    def step(self, arrays: Arrays, state: State, rows: Rows) -> Stepped:
        """Add some rows; there is no loss."""
        return Stepped(dict(arrays), packed(unpacked(state) + self._sums(rows)), None)

    def remove(self, arrays: Arrays, state: State, rows: Rows) -> Stepped:
        """Take rows out that were added before.

        Raises:
            BadData: more than there are.
        """
        return Stepped(dict(arrays), packed(unpacked(state) - self._sums(rows)), None)

    def update(self, arrays: Arrays, state: State) -> Additive:
        """The sums."""
        return Additive(packed(unpacked(state)))

    def _sums(self, rows: Rows) -> Sums:
        if rows.features is None:
            raise BadData("expected a graph that gives features, found none; export the bundle with a head")
        features, targets = rows.features()
        if not np.all(np.isfinite(features)):
            raise BadData("expected finite features, found others; these rows were left out")
        return gather(on_grid(features, self.grid) if self.grid else features, targets)


def spectrum(sums: Sums, intercept: bool = True) -> Spectrum:
    """The eigenvectors of A; with an intercept, rows and targets are centred, so that it is not regularized.

    Raises:
        BadData: no rows.
    """
    if sums.rows < 1:
        raise BadData("expected rows to solve a head from, found none; add data first")
    size = sums.features
    full = square(sums.upper, size + 1)
    a, b, mean, target = full[:size, :size], sums.right[:size], np.zeros(size), np.zeros(sums.right.shape[1])
    if intercept:
        mean, target = full[:size, size] / sums.rows, sums.right[size] / sums.rows
        a, b = a - sums.rows * np.outer(mean, mean), b - sums.rows * np.outer(mean, target)
    eigenvalues, vectors = np.linalg.eigh((a + a.T) / 2)
    # below this they are what rounding left of 0
    floor = np.finfo(np.float64).eps * max(size, 1) * float(np.trace(full[:size, :size]))
    return Spectrum(np.where(eigenvalues > floor, eigenvalues, 0.0), vectors, vectors.T @ b, mean, target)


def solve(of: Spectrum, mu: float, order: int = 0) -> tuple[Float64, Float64]:
    """Weight [features, outputs] and bias [outputs] of B_k; with mu = 0 the least squares of smallest norm.

    Args:
        of: see `spectrum`.
        mu: in the units of A: a sum of squares over all rows. scikit-learn calls it alpha.
        order: k.
    """
    weight = of.vectors @ (_filter(of.eigenvalues, mu, order)[:, None] * of.projected)
    return weight, of.target - of.mean @ weight


def error(sums: Sums, weight: Float64, bias: Float64) -> float:
    """The mean squared error of a head on rows of which only the sums are known, over rows and outputs."""
    if sums.rows < 1:
        raise BadData("expected rows to judge a head by, found none; keep some back")
    head = np.vstack([weight, bias[None]])
    full = square(sums.upper, sums.features + 1)
    squared = np.sum(head * (full @ head), axis=0) - 2 * np.sum(head * sums.right, axis=0) + sums.squares
    # rounding may leave a little below 0 where a head fits every row
    return max(0.0, float(np.sum(squared))) / sums.rows / len(bias)


def choose(of: Spectrum, kept_back: Sums, mus: Sequence[float], orders: Sequence[int]) -> tuple[float, int]:
    """The mu and the order with the least error on rows kept back; the first of equals."""
    pairs = [(mu, order) for order in orders for mu in mus]
    return min(pairs, key=lambda pair: error(kept_back, *solve(of, *pair)))


def _filter(eigenvalues: Float64, mu: float, order: int) -> Float64:
    """(1 - (mu / (l + mu))^(k+1)) / l, which is 1 / l where mu is 0; 0 where l is: no row says anything there."""
    known = eigenvalues > 0
    safe = np.where(known, eigenvalues, 1.0)
    kept = -np.expm1(-(order + 1) * np.log1p(safe / mu)) if mu > 0 else 1.0
    return np.where(known, kept / safe, 0.0)
