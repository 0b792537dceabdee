"""Boards as the tests of aggregation need them, and the sums they bring as whole matrices in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hub.aggregation.method import Emitted, Method, Trains
from wire.kinds.lora import Lora

Array = NDArray[np.float64]
Board = tuple[Lora, float]
M, N, RANK, SCALE = 24, 20, 16, 2.0


def factors(g: np.random.Generator, rank: int, rows: int = M, columns: int = N, scale: float = SCALE) -> Lora:
    """Random factors in float32, as they travel."""
    a = g.standard_normal((rows, rank)).astype(np.float32)
    b = g.standard_normal((rank, columns)).astype(np.float32)
    return Lora(a, b, scale)


def trained(g: np.random.Generator, sent: Lora, rank: int, moves: Trains = "both") -> Lora:
    """What a board of a rank makes of what it was sent, moving one factor or both."""
    start, change = sent.prefix(rank), factors(g, rank, sent.a.shape[0], sent.b.shape[1])
    a = start.a + change.a if moves != "b" else start.a
    b = start.b + change.b if moves != "a" else start.b
    return Lora(a, b, sent.scale)


def boards(seed: int, ranks: list[int], shares: list[float], moves: Trains = "both") -> tuple[Lora, list[Board]]:
    """What was sent, and boards that started from it, with their shares."""
    g = np.random.default_rng(seed)
    sent = factors(g, RANK)
    return sent, [(trained(g, sent, rank, moves), share) for rank, share in zip(ranks, shares, strict=True)]


def aggregated(method: Method, sent: Lora, brought: list[Board], rank: int = RANK, total: float = 1.0) -> Emitted:
    """What one hub makes of it."""
    state = method.init(sent)
    for lora, share in brought:
        state = method.apply(state, lora, share)
    return method.finish(state, rank, sent.scale, 7, total)


def product(emitted: Emitted, scale: float = SCALE) -> Array:
    """The whole matrix of a ladder."""
    return np.asarray(scale * emitted.a @ emitted.b)


def expected(sent: Lora, brought: list[Board], total: float = 1.0) -> Array:
    """The formula of `stacking`, term by term: products of boards, and directions as sent where nobody trained."""
    result = np.zeros((sent.a.shape[0], sent.b.shape[1]))
    for lora, share in brought:
        result += share / total * lora.product()
    for i in range(sent.rank):
        m = sum(share for lora, share in brought if lora.rank > i) / total
        result += (1 - m) * sent.scale * np.outer(sent.a[:, i].astype(np.float64), sent.b[i].astype(np.float64))
    return result


def best(matrix: Array, rank: int) -> Array:
    """The best approximation of a rank, by a full SVD."""
    u, s, vt = np.linalg.svd(matrix)
    return np.asarray((u[:, :rank] * s[:rank]) @ vt[:rank])


def relative(found: Array, wanted: Array) -> float:
    """The Frobenius norm of the difference over that of what was wanted."""
    return float(np.linalg.norm(found - wanted) / max(float(np.linalg.norm(wanted)), 1e-300))
