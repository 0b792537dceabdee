"""HetLoRA (Cho et al., arXiv 2401.06432, section 4.2): zero-padded means of factors, weighted by what was learned.

    A' = sum_k p_k pad(A_k),  B' = sum_k p_k pad(B_k),  p_k ~ w_k |A_k B_k|_F

The paper has no w_k: with uniform weights this is its formula. Boards take the first of the result (truncation); the
other half, self-pruning, is the board's (edge.trainers.pruning).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hub.aggregation import factors
from hub.aggregation.factors import Sums
from hub.aggregation.method import Emitted, Method
from hub.aggregation.thin import norm_of
from wire.kinds.lora import Lora

LEAST = 1e-30  # of a norm: boards that all learned nothing count alike


@dataclass(frozen=True)
class Normed:
    """Sums over boards of share times norm, and the sum of the shares."""

    sums: Sums
    share: float


def init(sent: Lora) -> Normed:
    """Nothing summed yet."""
    return Normed(factors.init(sent), 0.0)


def apply(state: Normed, trained: Lora, weight: float) -> Normed:
    """Add one board's factors, by its weight and by the norm of its product."""
    size = norm_of(trained.a.astype(np.float64), trained.b.astype(np.float64)) * abs(trained.scale)
    return Normed(factors.apply(state.sums, trained, weight * max(size, LEAST)), state.share + weight)


def merge(one: Normed, other: Normed) -> Normed:
    """The sum of two sums over different boards."""
    return Normed(factors.merge(one.sums, other.sums), one.share + other.share)


def finish(state: Normed, rank: int, scale: float, key: int, total: float) -> Emitted:
    """The means. Boards fill their share together; what they leave of `total` stays as it was sent."""
    sums, share = state.sums, state.share
    unit = sums.weight / share if share else 1.0  # of norms: turns a share into a weight
    kept, whole = (total - share) * unit, total * unit
    return factors.published(*factors.mean(sums, kept, whole), rank, scale, key)


METHOD = Method(
    "hetlora",
    "what the mean of factors loses, and what few boards hold, since a direction that a board does not have "
    "counts as zero; a board counts by the norm of its adapter besides its rows",
    init,
    apply,
    merge,
    finish,
)
