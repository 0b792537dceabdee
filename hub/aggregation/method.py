"""What an aggregation method is: pure functions over the factors of one slot, fed one update at a time.

    state = method.init(sent)
    for update in updates: state = method.apply(state, trained, weight)
    result = method.finish(state, rank, scale, key, total)

A state holds no more the more boards there are; two states of the same slot add by `merge`, so that a tree of hubs
gives what one hub gives. What boards start from is always a prefix of `Emitted`: the first r columns of A and the
first r rows of B.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wire.kinds.lora import Lora

Array = NDArray[np.float64]
Trains = Literal["both", "a", "b"]


@dataclass(frozen=True)
class Emitted:
    """A slot of a version: a [in, R], b [R, out], to be used with the version's scale.

    `tail` and `norm` are Frobenius norms of the product: of what was cut off, and of the whole.
    """

    a: Array
    b: Array
    tail: float
    norm: float


def always_both(nth: int) -> Trains:
    """Both factors learn in every round."""
    return "both"


@dataclass(frozen=True)
class Method:
    """One way to make one adapter out of many.

    Attributes:
        name: how people choose it.
        inexact: what it loses of the weighted mean of the boards' products, one sentence; empty if nothing.
        init: (sent, the whole of the version that the boards started from) -> state.
        apply: (state, factors as trained, weight above 0) -> state.
        merge: (state, state) -> state; both began with the same `sent`.
        finish: (state, rank, scale, key of spare directions, total) -> Emitted. `total` is the weight of all, at least
            the sum of the weights applied; the share that nobody fills stays as it was sent.
        trains: which factors boards train in the n-th round of training, from 0.
        equal_ranks: whether it takes only boards of one rank.
        apply_stale: (state, what the board started from: its prefix of an older version, factors as trained, weight
            above 0) -> state; None where only updates of the newest version can count.
    """

    name: str
    inexact: str
    init: Callable[[Lora], Any]
    apply: Callable[[Any, Lora, float], Any]
    merge: Callable[[Any, Any], Any]
    finish: Callable[[Any, int, float, int, float], Emitted]
    trains: Callable[[int], Trains] = always_both
    equal_ranks: bool = False
    apply_stale: Callable[[Any, Lora, Lora, float], Any] | None = None

    @property
    def one_factor(self) -> bool:
        """Whether its rounds train one factor, and the other one must stay as it is."""
        return self.trains is not always_both
