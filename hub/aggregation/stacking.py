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
    """The sum so far: sum of left @ right over the parts, plus dense, not yet divided by `weight`.

    Shapes: left [in, r], right [r, out], dense [in, out] or None, held [rank of what was sent].
    """

    sent: Lora
    parts: tuple[tuple[Array, Array], ...]
    dense: Array | None
    weight: float
    held: Array  # per direction that was sent, the weight of the boards that trained it

    @property
    def columns(self) -> int:
        """How many directions the parts have together."""
        return sum(left.shape[1] for left, _ in self.parts)


def init(sent: Lora) -> Stack:
    """Nothing summed yet; `sent` is the whole ladder of the version that the boards started from."""
    return Stack(sent, (), None, 0.0, np.zeros(sent.rank, dtype=np.float64))


def apply(stack: Stack, trained: Lora, weight: float) -> Stack:
    """Add one board's factors, as trained, with a weight above 0 (its samples).

    The stack never takes more memory than the matrix itself: once its factors would, they are multiplied out.
    """
    left = trained.a.astype(np.float64) * (weight * trained.scale)
    held = stack.held + np.where(np.arange(stack.sent.rank) < trained.rank, weight, 0.0)
    added = replace(
        stack,
        parts=(*stack.parts, (left, trained.b.astype(np.float64))),
        weight=stack.weight + weight,
        held=held,
    )
    rows, columns = trained.a.shape[0], trained.b.shape[1]
    if added.columns * (rows + columns) <= rows * columns:
        return added
    left, right = _join(added.parts)
    dense = left @ right if added.dense is None else added.dense + left @ right
    return replace(added, parts=(), dense=dense)


def finish(stack: Stack, rank: int) -> Factored:
    """The best rank-`rank` approximation of W', with the Frobenius norm of what was cut off in `tail`.

    Without any update the result is what was sent.
    """
    total, sent = stack.weight or 1.0, stack.sent
    kept = total * sent.scale * (1.0 - stack.held / total)
    left, right = _join((*stack.parts, (sent.a.astype(np.float64) * kept, sent.b.astype(np.float64))))
    if stack.dense is None:
        return refactor(left / total, right, rank)
    whole = (stack.dense + left @ right) / total
    return refactor(whole, np.eye(whole.shape[1]), rank)


def _join(parts: tuple[tuple[Array, Array], ...]) -> tuple[Array, Array]:
    """The parts side by side: left [in, R], right [R, out]."""
    return np.concatenate([left for left, _ in parts], axis=1), np.concatenate([right for _, right in parts], axis=0)


def norm(factored: Factored) -> float:
    """Frobenius norm of the whole, what was cut off included."""
    return float(np.sqrt(np.sum(factored.s**2) + factored.tail**2))
