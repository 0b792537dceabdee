"""Ridge regression with high-order regularization: a linear head in closed form from sums over rows.

Ridge regression (Hoerl and Kennard, Technometrics 1970) is the lowest order of what Liu and Cao describe in
"High-order Regularization for Machine Learning and Learning-based Control", arXiv 2505.08129: with A = sum x xT and
b = sum x yT over centred rows, R = mu I and M = (A + R)^-1, order k keeps k + 1 terms of the series of A^-1

    B_k = sum_{i=0..k} (M R)^i M b        so        B_inf - B_k = (M R)^(k+1) B_inf

which is iterated Tikhonov regularization, B <- B + M (b - A B), begun at 0 (derived; the paper's own notation was
not at hand). In the eigenvectors of A each direction is solved on its own, and one decomposition serves every mu and
every k: with eigenvalue l it gets (1 - (mu / (l + mu))^(k+1)) / l. Higher orders help where mu is too large and hurt
where it is too small: choose both on rows kept back (`choose`), which needs their sums only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from console.errors import BadData
from wire.discriminant import UNSEEN_BIAS
from wire.kinds.head import Head, Statistics, square
from wire.sums import Float64, Sums, of_classes

LOGIT_SCALE = 12.0  # targets are 0 and 1: as they are, the softmax over solutions would be nearly flat


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


def head_of(statistics: Statistics, mu: float, order: int = 0) -> Head:
    """The head of rows with classes: weight [features, classes], bias [classes], logits = x weight + bias.

    Classes without rows get weight 0 and a bias of -10,000.

    Raises:
        BadData: no rows.
    """
    weight, bias = solve(spectrum(of_classes(statistics)), mu, order)
    seen = statistics.count > 0
    weight, bias = LOGIT_SCALE * np.where(seen, weight, 0.0), np.where(seen, LOGIT_SCALE * bias, UNSEEN_BIAS)
    return Head(weight.astype(np.float32), bias.astype(np.float32))


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
