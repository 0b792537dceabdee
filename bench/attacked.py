"""The planted adapter with bad boards: what robust rules make of it: `python -m bench.attacked`.

numpy alone. Nine boards of unequal rank learn one matrix of rank 8, three of them with inputs that are large in the
same third of the coordinates. The last ones are bad: they train as the others do, and send something else. What is told
is the relative error of the version, the median over seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.planted import RATE, SIDE, TRUE, adam, gram_of
from console.table import table
from hub.aggregation import stacking
from hub.aggregation.blocks import reduced
from hub.aggregation.gram import gram
from hub.aggregation.method import Emitted
from hub.aggregation.products import changes
from hub.aggregation.robust.rule import Bounds
from hub.aggregation.robust.rules import BY_NUMBERS, NAMES, RULES
from hub.aggregation.shares import by_samples
from wire.kinds.lora import Lora
from wire.ladder import decompose, emit, spare_columns

Array = NDArray[np.float64]
RANKS, SKEWS, BAD, ROUNDS, SEEDS = (2, 4, 8, 16, 8, 4, 8, 4, 16), 3, 3, 10, 3
LONGEST = 2.0  # of `clip`: about the length of an honest change in the first round
Spoil = Callable[[np.random.Generator, Lora, Lora], Lora]


def honest(g: np.random.Generator, start: Lora, trained: Lora) -> Lora:
    """What it learned."""
    return trained


def huge(g: np.random.Generator, start: Lora, trained: Lora) -> Lora:
    """Noise a thousand times as large as anything learned."""
    return Lora(trained.a, (1e3 * g.standard_normal(trained.b.shape)).astype(np.float32), trained.scale)


def flipped(g: np.random.Generator, start: Lora, trained: Lora) -> Lora:
    """Five times what it learned, the wrong way."""
    return Lora(start.a, start.b - 5 * (trained.b - start.b), trained.scale)


def random(g: np.random.Generator, start: Lora, trained: Lora) -> Lora:
    """Noise as long as what it learned."""
    noise = g.standard_normal(trained.b.shape)
    noise *= np.linalg.norm(trained.product() - start.product()) / np.linalg.norm(trained.a @ noise)
    return Lora(trained.a, (start.b + noise).astype(np.float32), trained.scale)


SPOILT: dict[str, Spoil] = {"none": honest, "huge": huge, "flipped": flipped, "random": random}


def main() -> int:
    """Every rule against every kind of bad board."""
    parser = argparse.ArgumentParser(description="What robust rules make of a planted adapter with bad boards.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {rule: {kind: _median(rule, kind) for kind in SPOILT} for rule in NAMES}
    header = ["rule", *(f"bad: {kind}" for kind in SPOILT)]
    print(
        json.dumps(found) if options.json else table(header, [[n, *map(_said, e.values())] for n, e in found.items()])
    )
    return 0


def _median(rule: str, kind: str) -> float:
    return statistics.median(attacked(rule, kind, seed) for seed in range(SEEDS))


def _said(error: float) -> str:
    return f"{error:.3f}" if error < 100 else f"{error:.0e}"


def attacked(rule: str, kind: str, seed: int) -> float:
    """The relative error after ten rounds."""
    g, rank = np.random.default_rng(seed), max(RANKS)
    u, v = (np.linalg.qr(g.standard_normal((SIDE, TRUE)))[0] for _ in "uv")
    target = 4 * (u * np.linspace(1, 0.3, TRUE)) @ v.T
    grams = [gram_of(g, np.arange(SIDE) % SKEWS == k % SKEWS) for k in range(len(RANKS))]
    sent = Emitted(spare_columns(SIDE, rank, seed), np.zeros((rank, SIDE)), 0.0, 0.0)
    for t in range(ROUNDS):
        version = Lora(sent.a.astype(np.float32), sent.b.astype(np.float32), 1.0)
        boards = []
        for k, (inputs, r) in enumerate(zip(grams, RANKS, strict=True)):

            def gradients(a: Array, b: Array, inputs: Array = inputs) -> tuple[Array, Array]:
                error = inputs @ (a @ b - target)
                return error @ b.T, a.T @ error

            trained = adam(version.prefix(r), gradients, RATE * (1 - 0.9 * (t + 1) / ROUNDS), "both")
            bad = SPOILT[kind] if k >= len(RANKS) - BAD else honest
            boards.append(bad(g, version.prefix(r), trained))
        sent = aggregate(rule, version, boards, rank, seed * 1000 + t)
    return float(np.linalg.norm(sent.a @ sent.b - target) / np.linalg.norm(target))


def aggregate(rule: str, version: Lora, boards: list[Lora], rank: int, key: int) -> Emitted:
    """The next version by a rule, all boards alike."""
    equal, bounds = by_samples([1.0] * len(boards)), Bounds(BAD, LONGEST if rule == "clip" else 1.0, 0.0)
    readers = [partial(changes, {"slot": one}, {"slot": version}) for one in boards]
    if rule in BY_NUMBERS:
        reduce = BY_NUMBERS[rule].reduce
        some = [lambda parts, read=read: read() for read in readers]
        made = dict(reduced(some, {"slot": (SIDE, SIDE)}, lambda part, s: reduce(s, equal.values, bounds)))
        whole = version.product() + made["slot"]
        kept = decompose(whole, rank)
        return Emitted(*emit(kept, rank, 1.0, key), kept.tail, float(np.linalg.norm(whole)))
    shares = RULES[rule].apply(gram(readers), equal, bounds) if rule in RULES else equal
    state = stacking.init(version)
    for one, share in zip(boards, shares.values, strict=True):
        state = stacking.apply(state, one, float(share)) if share > 0 else state
    return stacking.ladder(state, rank, 1.0, key, 1.0)


if __name__ == "__main__":
    raise SystemExit(main())
