"""Inner products and norms of changes in product space, without ever forming a matrix.

Factors are not unique: (A G, G^-1 B) is the same update, so lengths and angles of raw factors mean nothing across
boards. A change is s A B - s0 A0 B0, with A0, B0 the prefix that the board started from: left @ right with
left = [s A, -s0 A0] and right = [B; B0].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hub.aggregation.method import Array
from wire.kinds.lora import Lora


@dataclass(frozen=True)
class Change:
    """left [in, R] @ right [R, out]."""

    left: Array
    right: Array


def change(trained: Lora, sent: Lora) -> Change:
    """What a board changed of a slot; `sent` is the whole ladder that it started from a prefix of."""
    began = sent.prefix(trained.rank)
    left = np.concatenate([trained.scale * trained.a.astype(np.float64), -began.scale * began.a.astype(np.float64)], 1)
    return Change(left, np.concatenate([trained.b.astype(np.float64), began.b.astype(np.float64)]))


def changes(trained: Mapping[str, Lora], sent: Mapping[str, Lora]) -> dict[str, Change]:
    """The changes of all slots that a board trained."""
    return {name: change(factors, sent[name]) for name, factors in trained.items()}


def norm(one: Change) -> float:
    """The Frobenius norm of a product; by two QRs, so that nothing cancels.

    >>> norm(Change(np.array([[3.0], [4.0]]), np.array([[2.0]])))
    10.0
    """
    left, right = (np.asarray(np.linalg.qr(m, mode="r")) for m in (one.left, one.right.T))
    return float(np.linalg.norm(left @ right.T))


def inner(one: Change, other: Change) -> float:
    """The Frobenius inner product of two products: trace((L1^T L2) (R2 R1^T)).

    >>> inner(Change(np.ones((2, 1)), np.ones((1, 3))), Change(np.ones((2, 1)), 2 * np.ones((1, 3))))
    12.0
    """
    return float(np.sum((one.left.T @ other.left) * (one.right @ other.right.T)))
