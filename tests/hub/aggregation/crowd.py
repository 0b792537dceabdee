"""Boards of unequal rank around one honest change, with bad ones among them, for tests of rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from hub.aggregation.products import Change, changes
from wire.kinds.lora import Lora

Array = NDArray[np.float64]
SHAPES = {"query": (24, 20), "value": (12, 30)}
RANK, SCALE = 16, 2.0
Factors = dict[str, Lora]


def sent(g: np.random.Generator) -> Factors:
    """What boards start from."""
    return {
        name: Lora(
            np.linalg.qr(g.standard_normal((rows, min(rows, RANK))))[0].astype(np.float32),
            g.standard_normal((min(rows, RANK), columns)).astype(np.float32),
            SCALE,
        )
        for name, (rows, columns) in SHAPES.items()
    }


def honest(g: np.random.Generator, start: Factors, ranks: list[int]) -> list[Factors]:
    """Boards that learned the same change of the first two directions, each with noise of its own."""
    shared = {name: g.standard_normal((2, columns)) for name, (_, columns) in SHAPES.items()}
    found = []
    for rank in ranks:
        made = {}
        for name, whole in start.items():
            began = whole.prefix(rank)
            b = began.b + 0.05 * g.standard_normal(began.b.shape)
            b[:2] += shared[name][:rank]
            a = began.a + 0.002 * g.standard_normal(began.a.shape)
            made[name] = Lora(a.astype(np.float32), b.astype(np.float32), SCALE)
        found.append(made)
    return found


def huge(g: np.random.Generator, start: Factors, good: Factors) -> Factors:
    """As large as the hub lets in."""
    return {n: Lora(w.a, (1e4 * g.standard_normal(w.b.shape)).astype(np.float32), w.scale) for n, w in good.items()}


def flipped(g: np.random.Generator, start: Factors, good: Factors) -> Factors:
    """Twenty times what a good board learned, the wrong way."""
    return {
        n: Lora(w.a, (start[n].b[: w.rank] - 20 * (w.b - start[n].b[: w.rank])).astype(np.float32), w.scale)
        for n, w in good.items()
    }


def random(g: np.random.Generator, start: Factors, good: Factors) -> Factors:
    """Noise that is a few times longer than a good change."""
    return {n: Lora(w.a, (5 * g.standard_normal(w.b.shape)).astype(np.float32), w.scale) for n, w in good.items()}


BAD: dict[str, Callable[[np.random.Generator, Factors, Factors], Factors]] = {
    "huge": huge,
    "flipped": flipped,
    "random": random,
}


def regauged(g: np.random.Generator, factors: Factors) -> Factors:
    """The same products by other factors: (A G, G^-1 B)."""
    made = {}
    for name, w in factors.items():
        gauge = g.standard_normal((w.rank, w.rank)) + 3 * np.eye(w.rank)
        a, b = w.a.astype(np.float64) @ gauge, np.linalg.solve(gauge, w.b.astype(np.float64))
        made[name] = Lora(a.astype(np.float32), b.astype(np.float32), w.scale)
    return made


def changed(start: Factors, trained: Factors) -> dict[str, Change]:
    """What a board changed, as factors."""
    return changes(trained, start)


def dense(start: Factors, trained: Mapping[str, Lora]) -> Array:
    """The same as one row of whole matrices, written down from the definition."""
    rows = [trained[n].product() - start[n].prefix(trained[n].rank).product() for n in sorted(trained)]
    return np.concatenate([row.ravel() for row in rows])
