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

from hub.aggregation.method import Emitted, Method
from wire.kinds.lora import Lora
from wire.ladder import Factored, emit, refactor

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

    The stack never takes more memory than the matrix itself.
    """
    left = trained.a.astype(np.float64) * (weight * trained.scale)
    held = stack.held + np.where(np.arange(stack.sent.rank) < trained.rank, weight, 0.0)
    parts = (*stack.parts, (left, trained.b.astype(np.float64)))
    return _thin(replace(stack, parts=parts, weight=stack.weight + weight, held=held))


def merge(one: Stack, other: Stack) -> Stack:
    """The sum of two sums over different boards that started from the same version."""
    dense = other.dense if one.dense is None else one.dense if other.dense is None else one.dense + other.dense
    weight, held = one.weight + other.weight, one.held + other.held
    return _thin(Stack(one.sent, (*one.parts, *other.parts), dense, weight, held))


def finish(stack: Stack, rank: int, total: float | None = None) -> Factored:
    """The best rank-`rank` approximation of W', with the Frobenius norm of what was cut off in `tail`.

    `total` is the weight of all boards (default: of those applied); the share of it that nobody fills stays as it was
    sent. Without any update the result is what was sent.
    """
    total, sent = total or stack.weight or 1.0, stack.sent
    kept = total * sent.scale * (1.0 - stack.held / total)
    left, right = _join((*stack.parts, (sent.a.astype(np.float64) * kept, sent.b.astype(np.float64))))
    if stack.dense is None:
        return refactor(left / total, right, rank)
    whole = (stack.dense + left @ right) / total
    return refactor(whole, np.eye(whole.shape[1]), rank)


def _thin(stack: Stack) -> Stack:
    """The same sum, multiplied out once its factors would take more memory than the matrix itself."""
    rows, columns = stack.sent.a.shape[0], stack.sent.b.shape[1]
    if stack.columns * (rows + columns) <= rows * columns:
        return stack
    left, right = _join(stack.parts)
    return replace(stack, parts=(), dense=left @ right if stack.dense is None else stack.dense + left @ right)


def _join(parts: tuple[tuple[Array, Array], ...]) -> tuple[Array, Array]:
    """The parts side by side: left [in, R], right [R, out]."""
    return np.concatenate([left for left, _ in parts], axis=1), np.concatenate([right for _, right in parts], axis=0)


def norm(factored: Factored) -> float:
    """Frobenius norm of the whole, what was cut off included."""
    return float(np.sqrt(np.sum(factored.s**2) + factored.tail**2))


def ladder(stack: Stack, rank: int, scale: float, key: int, total: float) -> Emitted:
    """`finish`, and its result as the ladder that is published."""
    whole = finish(stack, rank, total)
    a, b = emit(whole, rank, scale, key)
    return Emitted(a, b, whole.tail, norm(whole))


METHOD = Method("stacking", "", init, apply, merge, ladder)
