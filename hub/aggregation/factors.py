"""Weighted sums of factors, direction by direction: what the methods share that never multiply factors out.

B takes up the ratio of a board's scale to that of what was sent, so that all factors belong to one scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hub.aggregation.method import Array, Emitted
from hub.aggregation.thin import norm_of
from wire.kinds.lora import Lora
from wire.ladder import spare_columns


@dataclass(frozen=True)
class Sums:
    """The sum so far: a [in, R], b [R, out] and held [R] are sums over boards of their weight times what they have.

    `held` is the weight of the boards that have a direction, `weight` that of all boards, `ranks` are theirs.
    """

    sent: Lora
    a: Array
    b: Array
    held: Array
    weight: float
    ranks: frozenset[int]


def init(sent: Lora) -> Sums:
    """Nothing summed yet; `sent` is the whole ladder of the version that the boards started from."""
    return Sums(sent, np.zeros(sent.a.shape), np.zeros(sent.b.shape), np.zeros(sent.rank), 0.0, frozenset())


def apply(sums: Sums, trained: Lora, weight: float) -> Sums:
    """Add one board's factors, of the rank that was sent or less; directions that it does not have add nothing."""
    r, a, b, held = trained.rank, sums.a.copy(), sums.b.copy(), sums.held.copy()
    a[:, :r] += weight * trained.a.astype(np.float64)
    b[:r] += weight * trained.scale / sums.sent.scale * trained.b.astype(np.float64)
    held[:r] += weight
    return Sums(sums.sent, a, b, held, sums.weight + weight, sums.ranks | {r})


def merge(one: Sums, other: Sums) -> Sums:
    """The sum of two sums over different boards that started from the same version."""
    a, b, held = one.a + other.a, one.b + other.b, one.held + other.held
    return Sums(one.sent, a, b, held, one.weight + other.weight, one.ranks | other.ranks)


def mean(sums: Sums, kept: Array | float, total: float) -> tuple[Array, Array]:
    """A [in, R] and B [R, out]: the sums, and what was sent with the weight `kept` of each direction, over `total`."""
    weight = np.broadcast_to(np.asarray(kept, np.float64), sums.held.shape)
    a = (sums.a + weight * sums.sent.a.astype(np.float64)) / total
    b = (sums.b + weight[:, None] * sums.sent.b.astype(np.float64)) / total
    return a, b


def published(a: Array, b: Array, rank: int, scale: float, key: int) -> Emitted:
    """Factors at the hub's rank: the first directions of them, or with spare ones after them.

    A direction whose column of A is nothing goes out with a spare one and B = 0, or it could never learn.
    """
    whole, cut = norm_of(a, b) * scale, norm_of(a[:, rank:], b[rank:]) * scale
    made_a, made_b = spare_columns(len(a), rank, key), np.zeros((rank, b.shape[1]))
    live = np.flatnonzero(a[:, :rank].any(axis=0))
    made_a[:, live], made_b[live] = a[:, live], b[live]
    return Emitted(made_a, made_b, cut, whole)
