"""Ladders: an adapter as its singular directions in order, so that every board takes the prefix that fits.

Exact aggregation of low-rank updates of unequal rank: stacking as in FLoRA (Wang et al., arXiv 2409.05976,
section 3) and HSplitLoRA (arXiv 2505.02795), re-factored by two thin QRs and one small SVD as in FLoRIST
(arXiv 2506.09199). All arithmetic in float64; A [in, r], B [r, out], product scale A B.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wire.philox import key_of, signs

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Factored:
    """A matrix U diag(s) Vt in order: U [m, r], s [r], Vt [r, n]; `tail` is the Frobenius norm that was cut off."""

    u: Array
    s: Array
    vt: Array
    tail: float

    @property
    def rank(self) -> int:
        """How many directions it holds."""
        return len(self.s)


def refactor(left: Array, right: Array, rank: int) -> Factored:
    """The best rank-`rank` approximation of left @ right, never forming the product when the stack is thin.

    Args:
        left: [m, R], the A factors side by side, each times weight and scale.
        right: [R, n], the B factors on top of each other.
        rank: how many directions to keep.

    Returns:
        Singular directions with fixed signs: the largest entry of each column of U is positive.
    """
    m, stacked = left.shape
    n = right.shape[1]
    if stacked == 0:
        return Factored(np.zeros((m, 0)), np.zeros(0), np.zeros((0, n)), 0.0)
    if stacked >= min(m, n):  # the stack outgrew the matrix: form it (exact at any number of boards)
        return decompose(left @ right, rank)
    ql, qr = _triangle(left), _triangle(right.T)
    cu, s, cvt = np.linalg.svd(ql.r @ qr.r.T)
    keep = _alive(s, rank)
    u, v = ql.rotate(cu[:, :keep]), qr.rotate(cvt[:keep].T)
    return _fix_signs(Factored(u, s[:keep], v.T, _norm(s[keep:])))


def decompose(whole: Array, rank: int) -> Factored:
    """The best rank-`rank` approximation of a matrix [m, n], as `refactor` gives it."""
    u, s, vt = np.linalg.svd(whole, full_matrices=False)
    keep = _alive(s, rank)
    return _fix_signs(Factored(u[:, :keep], s[:keep], vt[:keep], _norm(s[keep:])))


@dataclass(frozen=True)
class _Triangle:
    """A thin QR whose Q [m, R] is never formed: reflectors v [m, R], their tau [R], and r [R, R].

    Q = I - V T V^T with T^-1 = diag(1 / tau) + the part of V^T V above its diagonal (compact WY, Schreiber & Van
    Loan, SIAM J. Sci. Stat. Comput. 10(1), 1989), so a few columns of Q C cost much less than Q.
    """

    v: Array
    tau: Array
    r: Array

    def rotate(self, few: Array) -> Array:
        """Q @ few, [m, k]."""
        stacked, k = few.shape
        turned = self.tau[:, None] * (self.v[:stacked].T @ few)
        above = np.eye(stacked) + self.tau[:, None] * np.triu(self.v.T @ self.v, 1)
        out: Array = self.v @ -np.linalg.solve(above, turned)
        out[:stacked, :k] += few
        return out


def _triangle(thin: Array) -> _Triangle:
    packed, tau = np.linalg.qr(thin, mode="raw")
    v, stacked = packed.T, len(tau)
    r = np.triu(v[:stacked])
    v[:stacked] = np.tril(v[:stacked], -1)
    np.fill_diagonal(v, 1.0)
    return _Triangle(v, tau, r)


def _norm(values: Array) -> float:
    return float(np.sqrt(np.sum(values**2)))


def _alive(s: Array, rank: int) -> int:
    """How many directions to keep: those that are more than rounding, at most `rank`."""
    return min(rank, int(np.count_nonzero(s > s[0] * 1e-12))) if s.size and s[0] > 0 else 0


def _fix_signs(f: Factored) -> Factored:
    if f.rank == 0:
        return f
    largest = np.abs(f.u).argmax(axis=0)
    flip = np.where(f.u[largest, np.arange(f.rank)] < 0, -1.0, 1.0)
    return Factored(f.u * flip, f.s, f.vt * flip[:, None], f.tail)


def emit(f: Factored, rank: int, scale: float, key: int, relative_floor: float = 1e-6) -> tuple[Array, Array]:
    """The ladder that is published: A [m, rank] with orthonormal columns, B [rank, n] carrying sigma / scale.

    A direction that is missing, or whose sigma vanished, goes out with a seeded A and B = 0, or it could never
    learn. `key` (a Philox key) makes the seeded columns the same on every hub.
    """
    m, n = f.u.shape[0], f.vt.shape[1]
    a, b = spare_columns(m, rank, key), np.zeros((rank, n))
    alive = int(np.count_nonzero(f.s > f.s[0] * relative_floor)) if f.rank else 0
    live = min(alive, rank)
    a[:, :live], b[:live] = f.u[:, :live], f.s[:live, None] * f.vt[:live] / scale
    return a, b


def spare_columns(rows: int, rank: int, key: int) -> Array:
    """Seeded A for directions that carry nothing yet: signs / sqrt(rows), unit columns, [rows, rank]."""
    columns = np.stack([signs(key, i, (rows,)) for i in range(rank)], axis=1) if rank else np.zeros((rows, 0))
    spare: Array = columns.astype(np.float64) / np.sqrt(rows)
    return spare


def slot_key(model: str, slot: str, version: int) -> int:
    """The Philox key of a slot's spare directions in a version."""
    return key_of("ladder", model, slot, version)


def rungs(rank: int) -> list[tuple[int, int]]:
    """Cut a ladder into pieces [low, high) of which every power of two is a prefix.

    >>> rungs(16)
    [(0, 1), (1, 2), (2, 4), (4, 8), (8, 16)]
    >>> rungs(6)
    [(0, 1), (1, 2), (2, 4), (4, 6)]
    """
    cuts, at = [0], 1
    while at < rank:
        cuts.append(at)
        at *= 2
    cuts.append(rank)
    return [(low, high) for low, high in pairwise(cuts) if high > low]
