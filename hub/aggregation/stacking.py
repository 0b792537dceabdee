"""Exact aggregation of low-rank updates of unequal rank, one slot at a time, as `init`, `apply`, `finish`.

Stacking as in FLoRA (Wang et al., arXiv 2409.05976, section 3) and HSplitLoRA (arXiv 2505.02795), re-factored as in
FLoRIST (arXiv 2506.09199). What boards of small rank never saw must not fade, so the directions that were sent are
kept in the share that nobody trained (rank collapse: raFLoRA, arXiv 2602.13486):

    W' = sum_k w_k s_k A_k B_k + sum_i (1 - m_i) s a_i b_i

with w_k the share of board k's samples, a_i b_i direction i of the ladder that was sent, and m_i the summed weight of
the boards whose rank exceeds i. An update that started from an older version counts by its change, so that nothing
is taken back that was learned meanwhile; with A0 B0 its prefix of that version and s0 its scale, it adds

    w_k (s_k A_k B_k - s0 A0 B0)

and holds no direction. All arithmetic in float64; A is [in, r], B is [r, out].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hub.aggregation.method import Array, Emitted, Method
from hub.aggregation.thin import Part, Thin
from wire.kinds.lora import Lora
from wire.ladder import Factored, emit


@dataclass(frozen=True)
class Stack:
    """The sum so far: of weight times product over the boards, not yet divided by `weight`.

    `held` [rank of what was sent] is the weight of the boards that trained a direction.
    """

    sent: Lora
    products: Thin
    weight: float
    held: Array


def init(sent: Lora) -> Stack:
    """Nothing summed yet; `sent` is the whole ladder of the version that the boards started from."""
    return Stack(sent, Thin((sent.a.shape[0], sent.b.shape[1])), 0.0, np.zeros(sent.rank))


def apply(stack: Stack, trained: Lora, weight: float) -> Stack:
    """Add one board's factors, as trained, with a weight above 0 (its share)."""
    held = stack.held + np.where(np.arange(stack.sent.rank) < trained.rank, weight, 0.0)
    part = Part(trained.a, trained.b, weight * trained.scale)
    return Stack(stack.sent, stack.products.plus(part), stack.weight + weight, held)


def apply_stale(stack: Stack, base: Lora, trained: Lora, weight: float) -> Stack:
    """Add what one board changed of `base`, its prefix of an older version, with a weight above 0."""
    gained, before = Part(trained.a, trained.b, weight * trained.scale), Part(base.a, base.b, -weight * base.scale)
    return Stack(stack.sent, stack.products.plus(gained).plus(before), stack.weight + weight, stack.held)


def merge(one: Stack, other: Stack) -> Stack:
    """The sum of two sums over different boards that started from the same version."""
    return Stack(one.sent, one.products.merged(other.products), one.weight + other.weight, one.held + other.held)


def whole(stack: Stack, total: float) -> Thin:
    """W' times `total`, which is the weight of all boards; what nobody trained is in it as it was sent."""
    kept = (total - stack.held) * stack.sent.scale
    return stack.products.beside(Part(stack.sent.a * kept, stack.sent.b))


def finish(stack: Stack, rank: int, total: float | None = None) -> Factored:
    """The best rank-`rank` approximation of W', with the Frobenius norm of what was cut off in `tail`.

    `total` is the weight of all boards (default: of those applied); the share of it that nobody fills stays as it was
    sent. Without any update the result is what was sent.
    """
    total = total or stack.weight or 1.0
    return whole(stack, total).refactored(rank, total)


def norm(factored: Factored) -> float:
    """Frobenius norm of the whole, what was cut off included."""
    return float(np.sqrt(np.sum(factored.s**2) + factored.tail**2))


def ladder(stack: Stack, rank: int, scale: float, key: int, total: float) -> Emitted:
    """`finish`, and its result as the ladder that is published."""
    found = finish(stack, rank, total)
    a, b = emit(found, rank, scale, key)
    return Emitted(a, b, found.tail, norm(found))


METHOD = Method("stacking", "", init, apply, merge, ladder, apply_stale=apply_stale)
