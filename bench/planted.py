"""The planted adapter: boards of unequal rank and skewed inputs learn one matrix of rank 8: `python -m bench.planted`.

numpy alone. A version travels as a ladder, boards train a prefix of it with Adam, and a method of the hub makes the
next version. What is told is the relative error of the version, the median over seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from console.table import table
from hub.aggregation.method import Emitted, Method
from hub.aggregation.methods import METHODS
from wire.kinds.lora import Lora
from wire.ladder import spare_columns

Array = NDArray[np.float64]
SIDE, TRUE, ROWS, STEPS, RATE = 64, 8, 256, 10, 0.02
UNEQUAL, EQUAL = (2, 4, 8, 16), (8, 8, 8, 8)
AFTER, SEEDS = (1, 10, 30), 5


def main() -> int:
    """Every method, with boards of unequal rank where it takes them, and with boards of one rank."""
    parser = argparse.ArgumentParser(description="What methods of aggregation make of a planted adapter.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {
        name: [None if method.equal_ranks else _median(method, UNEQUAL), _median(method, EQUAL)]
        for name, method in METHODS.items()
    }
    header = ["method", *(f"ranks {', '.join(map(str, r))}, after {n}" for r in (UNEQUAL, EQUAL) for n in AFTER)]
    rows = [
        [name, *(f"{e:.3f}" if e is not None else "-" for part in parts for e in part or (None,) * len(AFTER))]
        for name, parts in found.items()
    ]
    print(json.dumps(found) if options.json else table(header, rows))
    return 0


def _median(method: Method, ranks: tuple[int, ...]) -> list[float]:
    runs = [planted(method, seed, ranks) for seed in range(SEEDS)]
    return [statistics.median(run[n - 1] for run in runs) for n in AFTER]


def planted(method: Method, seed: int, ranks: tuple[int, ...] = UNEQUAL, rounds: int = 30) -> list[float]:
    """The relative error after each round."""
    g, rank = np.random.default_rng(seed), max(ranks)
    u, v = (np.linalg.qr(g.standard_normal((SIDE, TRUE)))[0] for _ in "uv")
    target = 4 * (u * np.linspace(1, 0.3, TRUE)) @ v.T
    grams = [gram_of(g, np.arange(SIDE) % len(ranks) == k) for k in range(len(ranks))]
    sent, errors = Emitted(spare_columns(SIDE, rank, seed), np.zeros((rank, SIDE)), 0.0, 0.0), []
    for t in range(rounds):
        version = Lora(sent.a.astype(np.float32), sent.b.astype(np.float32), 1.0)
        state, rate = method.init(version), RATE * (1 - 0.9 * (t + 1) / rounds)
        for gram, r in zip(grams, ranks, strict=True):

            def gradients(a: Array, b: Array, gram: Array = gram) -> tuple[Array, Array]:
                error = gram @ (a @ b - target)
                return error @ b.T, a.T @ error

            state = method.apply(state, adam(version.prefix(r), gradients, rate, method.trains(t)), 1 / len(ranks))
        sent = method.finish(state, rank, 1.0, seed * 1000 + t, 1.0)
        errors.append(float(np.linalg.norm(sent.a @ sent.b - target) / np.linalg.norm(target)))
    return errors


def gram_of(g: np.random.Generator, own: NDArray[np.bool_]) -> Array:
    """Of a board's inputs, which are large in its own coordinates and small in the others."""
    x = g.standard_normal((ROWS, SIDE)) * np.where(own, 1.0, 0.3)
    return np.asarray(x.T @ x * (2 / (ROWS * SIDE)))


def adam(start: Lora, gradients: Callable[[Array, Array], tuple[Array, Array]], rate: float, moves: str) -> Lora:
    """Ten steps of Adam on |X (A B - T)|^2 over the factors that learn."""
    parts = [start.a.astype(np.float64), start.b.astype(np.float64)]
    m, v = ([np.zeros_like(p) for p in parts] for _ in "mv")
    for s in range(1, STEPS + 1):
        for i, gradient in enumerate(gradients(parts[0], parts[1])):
            if moves not in ("both", "ab"[i]):
                continue
            m[i] = 0.9 * m[i] + 0.1 * gradient
            v[i] = 0.99 * v[i] + 0.01 * gradient**2
            parts[i] = parts[i] - rate * (m[i] / (1 - 0.9**s)) / (np.sqrt(v[i] / (1 - 0.99**s)) + 1e-8)
    return Lora(parts[0].astype(np.float32), parts[1].astype(np.float32), 1.0)


if __name__ == "__main__":
    raise SystemExit(main())
