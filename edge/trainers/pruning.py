"""Self-pruning: the last directions of an adapter must be worth their place, or they are left out.

HetLoRA (Cho et al., arXiv 2401.06432, section 4.1). With the first floor(gamma r) directions kept and the tail beyond
them, a board minimises loss + lambda * sum over slots |A_tail| |B_tail| (Frobenius norms), and prunes all tails if the
sum is smaller after a round than before it. gamma is 0.99 in the paper's experiments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.trainers.interface import Array, Arrays, Gradients, Needs, Rows, State, Stepped, Trainer, Update
from wire.adapter import Adapter
from wire.kinds.lora import Lora


@dataclass(frozen=True)
class Tail:
    """The directions of a slot from `kept` on: of the arrays `a` [in, r] and `b` [r, out], by graph input."""

    a: str
    b: str
    kept: int


def kept(gamma: float, rank: int) -> int:
    """How many directions are no tail; at least one.

    >>> [kept(0.99, rank) for rank in (1, 2, 16)], kept(1.0, 8), kept(0.5, 8)
    ([1, 1, 15], 8, 4)
    """
    return max(1, math.floor(gamma * rank))


def penalty(arrays: Arrays, tails: Sequence[Tail]) -> float:
    """The sum over slots of the product of their tails' norms.

    >>> ones = {"a": np.ones((4, 2), np.float32), "b": np.ones((2, 9), np.float32)}
    >>> penalty(ones, [Tail("a", "b", 1)])
    6.0
    """
    return sum(_norm(arrays[t.a][:, t.kept :]) * _norm(arrays[t.b][t.kept :]) for t in tails)


def gradient(arrays: Arrays, tails: Sequence[Tail]) -> dict[str, Array]:
    """Of `penalty`, by array; 0 where a norm has none because its tail is 0."""
    found = dict[str, Array]()
    for tail in tails:
        a, b = arrays[tail.a][:, tail.kept :], arrays[tail.b][tail.kept :]
        size_a, size_b = _norm(a), _norm(b)
        found[tail.a], found[tail.b] = np.zeros_like(arrays[tail.a]), np.zeros_like(arrays[tail.b])
        if size_a and size_b:
            found[tail.a][:, tail.kept :] = a * np.float32(size_b / size_a)
            found[tail.b][tail.kept :] = b * np.float32(size_a / size_b)
    return found


@dataclass(frozen=True)
class SelfPruning:
    """A trainer with gradients, whose loss has the penalty too.

    Attributes:
        inner: the trainer.
        tails: of the slots.
        strength: lambda.
    """

    inner: Trainer
    tails: tuple[Tail, ...]
    strength: float

    @property
    def needs(self) -> Needs:
        """As the trainer within."""
        return self.inner.needs

    def slower(self, share: float) -> SelfPruning:
        """The same with a share of its rate."""
        return replace(self, inner=self.inner.slower(share))

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The state before the first step."""
        return self.inner.begin(arrays)

    def step(self, arrays: Arrays, state: State, rows: Rows) -> Stepped:
        """One step on some rows."""
        ask = rows.gradients
        if ask is None or not self.strength:
            return self.inner.step(arrays, state, rows)
        return self.inner.step(arrays, state, replace(rows, gradients=lambda a: [self._more(a, p) for p in ask(a)]))

    def update(self, arrays: Arrays, state: State) -> Update:
        """What the hub is sent."""
        return self.inner.update(arrays, state)

    def _more(self, arrays: Arrays, part: Gradients) -> Gradients:
        """Sums over rows, with the penalty once for each row, so that their mean has it once."""
        times, own = self.strength * part.rows, gradient(arrays, self.tails)
        found = {n: g + np.float32(times) * own[n] if n in own else g for n, g in part.by_input.items()}
        return Gradients(part.loss + times * penalty(arrays, self.tails), found, part.rows)


def pruned(before: Mapping[str, Lora], after: Adapter, gamma: float) -> Adapter:
    """The adapter without the tails of its slots, if these shrank in all."""
    sizes = [
        sum(_norm(w.a[:, kept(gamma, w.rank) :]) * _norm(w.b[kept(gamma, w.rank) :]) for w in lora.values())
        for lora in (before, after.lora)
    ]
    if not sizes[1] < sizes[0]:
        return after
    return replace(after, lora={name: w.prefix(kept(gamma, w.rank)) for name, w in after.lora.items()})


def _norm(values: Array) -> float:
    return float(np.linalg.norm(values.astype(np.float64)))
