"""FedEx-LoRA (Singhal et al., arXiv 2410.09432, section 4): means of factors, and what they lose beside them.

    A' = sum_k w_k A_k,  B' = sum_k w_k B_k,  residual = W' - s A' B'

The paper adds the residual to the frozen weights. Here those cannot be written (they are quantized, signed, and
shared), so the best low-rank part of it goes into the rungs of the ladder beyond the largest rank of the boards.
W' is the sum of `stacking`: of the mean of the boards' products, and of what nobody trained as it was sent, which is
where the residuals of earlier rounds are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hub.aggregation import factors, stacking
from hub.aggregation.factors import Sums
from hub.aggregation.method import Emitted, Method
from hub.aggregation.stacking import Stack
from hub.aggregation.thin import Part
from wire.kinds.lora import Lora
from wire.ladder import emit

ROUNDING = 1e-9  # of the norm of the whole: a residual below it is none


@dataclass(frozen=True)
class Both:
    """The sums of factors, and the sum of products."""

    sums: Sums
    stack: Stack


def init(sent: Lora) -> Both:
    """Nothing summed yet."""
    return Both(factors.init(sent), stacking.init(sent))


def apply(state: Both, trained: Lora, weight: float) -> Both:
    """Add one board's factors."""
    return Both(factors.apply(state.sums, trained, weight), stacking.apply(state.stack, trained, weight))


def merge(one: Both, other: Both) -> Both:
    """The sum of two sums over different boards."""
    return Both(factors.merge(one.sums, other.sums), stacking.merge(one.stack, other.stack))


def finish(state: Both, rank: int, scale: float, key: int, total: float) -> Emitted:
    """The means in the first rungs, the residual's best part in the others; `tail` is what does not fit there."""
    sums, whole = state.sums, stacking.whole(state.stack, total)
    first = min(max(sums.ranks, default=0), rank)
    a, b = factors.mean(sums, total - sums.held, total)
    a, b = a[:, :first], b[:first]
    residual = whole.beside(Part(a, b, -scale * total)).refactored(rank - first, total)
    norm = whole.norm() / total
    told = replace(residual, s=np.where(residual.s > ROUNDING * norm, residual.s, 0.0))
    rest_a, rest_b = emit(told, rank - first, scale, key)
    joined = np.concatenate([a, rest_a], axis=1), np.concatenate([b, rest_b])
    return replace(factors.published(*joined, rank, scale, key), tail=residual.tail, norm=norm)


METHOD = Method(
    "fedex",
    "what does not fit: what the mean of factors loses goes into the rungs beyond the boards' rank, and only its "
    "best part has room there, nothing of it if a board has the hub's rank",
    init,
    apply,
    merge,
    finish,
)
