"""Importance as FedPipe has it: sensitivity times uncertainty, over the singular directions of a weight.

Fang, Lin, Chen and others, "Automated Federated Pipeline for Parameter-Efficient Fine-Tuning of Large Language
Models", arXiv 2404.06448, which scores with AdaLoRA's measure (Zhang, Chen, Bukharin and others, arXiv 2303.10512,
equations 8 to 12). Of a weight W = sum_i l_i p_i q_i, with p_i [in], q_i [out] and gradient G = dL/dW:

    (1) s(w)   = |w * dL/dw|                                  for every entry of l, p, q
    (2) S      = b1 S + (1 - b1) s                            sensitivity
    (3) U      = b2 U + (1 - b2) |s - S|                      uncertainty
    (4) score  = S * U                                        per entry
    (5) triple = score(l_i) + mean score(p_i) + mean score(q_i),  and a weight's is the sum over its i

S and U begin at 0; (4) divides both by the weight that they have collected, 1 - b^t, as Adam does: what was measured
once then compares with what was measured often. Boards report one number per weight instead of entries (their
directions are A and B of a slot), and (2) to (4) run over that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BETA1 = BETA2 = 0.85
DIRECTIONS = 16  # of a weight that are looked at
PASSES = 3  # of subspace iteration
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sensed:
    """S and U of (2) and (3), arrays of one shape, or numbers, after `count` measurements."""

    sensitivity: Array
    uncertainty: Array
    count: int

    @property
    def score(self) -> Array:
        """Step (4).

        >>> round(float(sensed(None, 2.0).score), 6)  # S = 2; U = |2 - 0.3|
        3.4
        """
        if not self.count:
            return np.zeros_like(self.sensitivity)
        s, u = self.sensitivity / (1 - BETA1**self.count), self.uncertainty / (1 - BETA2**self.count)
        return np.asarray(s * u)


def sensed(before: Sensed | None, measured: ArrayLike) -> Sensed:
    """Steps (2) and (3) for measurements s, of one shape every time."""
    s = np.asarray(measured, np.float64)
    old = Sensed(np.zeros(s.shape), np.zeros(s.shape), 0) if before is None else before
    sensitivity = BETA1 * old.sensitivity + (1 - BETA1) * s
    uncertainty = BETA2 * old.uncertainty + (1 - BETA2) * np.abs(s - sensitivity)
    return Sensed(sensitivity, uncertainty, old.count + 1)


@dataclass(frozen=True, eq=False)
class Directions:
    """The largest singular directions of a weight: p [in, k], l [k], q [k, out]."""

    p: Array
    values: Array
    q: Array


def directions(weight: Array, count: int = DIRECTIONS) -> Directions:
    """The largest directions of a weight [in, out]; of a small one exactly, else by subspace iteration.

    Halko, Martinsson and Tropp, arXiv 0909.4061, algorithm 4.4, with a seeded start: the same weight gives the same.
    """
    w = np.asarray(weight, np.float64)
    count = min(count, *w.shape)
    if min(w.shape) <= 2 * count:
        p, values, q = np.linalg.svd(w, full_matrices=False)
        return Directions(p[:, :count], values[:count], q[:count])
    basis = np.linalg.qr(w @ np.random.default_rng(0).standard_normal((w.shape[1], count + 8)))[0]
    for _ in range(PASSES):
        basis = np.linalg.qr(w @ np.linalg.qr(w.T @ basis)[0])[0]
    p, values, q = np.linalg.svd(basis.T @ w, full_matrices=False)
    return Directions((basis @ p)[:, :count], values[:count], q[:count])


def measured(of: Directions, gradient: Array) -> dict[str, Array]:
    """Step (1): |w * dL/dw| of the entries of l, p and q, from the gradient of the weight [in, out]."""
    g = np.asarray(gradient, np.float64)
    to_p = (g @ of.q.T) * of.values  # dL/dp [in, k]
    to_q = (of.p.T @ g) * of.values[:, None]  # dL/dq [k, out]
    to_l = np.einsum("ik,ik->k", of.p, g @ of.q.T)
    return {"l": np.abs(of.values * to_l), "p": np.abs(of.p * to_p), "q": np.abs(of.q * to_q)}


def score(parts: dict[str, Sensed]) -> float:
    """Step (5), of what was sensed of l [k], p [in, k] and q [k, out]."""
    return float((parts["l"].score + parts["p"].score.mean(axis=0) + parts["q"].score.mean(axis=1)).sum())
