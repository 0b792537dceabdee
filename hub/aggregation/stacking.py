"""Exact aggregation of low-rank updates of unequal rank, one slot at a time, as `init`, `apply`, `finish`.

Stacking as in FLoRA (Wang et al., arXiv 2409.05976, section 3) and HSplitLoRA (arXiv 2505.02795), re-factored as in
FLoRIST (arXiv 2506.09199). What boards of small rank never saw must not fade, so the directions that were sent are
kept in the share that nobody trained (rank collapse: raFLoRA, arXiv 2602.13486):

    W' = sum_k w_k s_k A_k B_k + sum_i (1 - m_i) s a_i b_i

with w_k the share of board k's samples, a_i b_i direction i of the ladder that was sent, and m_i the summed weight of
the boards whose rank exceeds i. All arithmetic in float64; A is [in, r], B is [r, out].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wire.kinds.lora import Lora
from wire.ladder import Factored, refactor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """The sum so far: left @ right + dense, not yet divided by `weight`.

    Shapes: left [in, R], right [R, out], dense [in, out] or None, held [rank of what was sent].
    """

    sent: Lora
    left: Array
    right: Array
    dense: Array | None
    weight: float
    held: Array  # per direction that was sent, the weight of the boards that trained it


def init(sent: Lora) -> Stack:
    """Nothing summed yet; `sent` is the whole ladder of the version that the boards started from."""
    rows, columns = sent.a.shape[0], sent.b.shape[1]
    return Stack(sent, np.zeros((rows, 0)), np.zeros((0, columns)), None, 0.0, np.zeros(sent.rank, dtype=np.float64))


def apply(stack: Stack, trained: Lora, weight: float) -> Stack:
    """Add one board's factors, as trained, with a weight above 0 (its samples).

    The stack never takes more memory than the matrix itself: once its factors would, they are multiplied out.
    """
    left = np.concatenate([stack.left, trained.a.astype(np.float64) * (weight * trained.scale)], axis=1)
    right = np.concatenate([stack.right, trained.b.astype(np.float64)], axis=0)
    dense = stack.dense
    rows, columns = left.shape[0], right.shape[1]
    if left.shape[1] * (rows + columns) > rows * columns:
        dense = left @ right if dense is None else dense + left @ right
        left, right = left[:, :0], right[:0]
    held = stack.held + np.where(np.arange(stack.sent.rank) < trained.rank, weight, 0.0)
    return replace(stack, left=left, right=right, dense=dense, weight=stack.weight + weight, held=held)


def finish(stack: Stack, rank: int) -> Factored:
    """The best rank-`rank` approximation of W', with the Frobenius norm of what was cut off in `tail`.

    Without any update the result is what was sent.
    """
    total = stack.weight or 1.0
    kept = stack.sent.scale * (1.0 - stack.held / total)
    left = np.concatenate([stack.left / total, stack.sent.a.astype(np.float64) * kept], axis=1)
    right = np.concatenate([stack.right, stack.sent.b.astype(np.float64)], axis=0)
    if stack.dense is None:
        return refactor(left, right, rank)
    whole = stack.dense / total + left @ right
    return refactor(whole, np.eye(whole.shape[1]), rank)


def norm(factored: Factored) -> float:
    """Frobenius norm of the whole, what was cut off included."""
    return float(np.sqrt(np.sum(factored.s**2) + factored.tail**2))
