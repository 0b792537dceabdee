"""What a server optimiser is: a pure function over one slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hub.aggregation.method import Array
from hub.aggregation.products import Change

State = Mapping[str, Array]  # what it remembers of a slot, by name; empty before the first step


@dataclass(frozen=True)
class Settings:
    """The numbers of optimisers.

    Attributes:
        rate: of the step.
        beta1: what remains of the mean of changes after a round.
        beta2: what remains of the mean of their squares.
        rank: how many directions of a factored memory are kept.
    """

    rate: float
    beta1: float = 0.9
    beta2: float = 0.99
    rank: int = 16


@dataclass(frozen=True)
class Optimiser:
    """One optimiser.

    Attributes:
        name: how people choose it.
        usual_rate: the rate where none is said.
        step: (the slot as it was sent, its mean change, state, settings) -> (the slot as it becomes, state); the
            change's factors are [in, R] and [R, out], and so is the result, or it is a whole matrix [in, out].
    """

    name: str
    usual_rate: float
    step: Callable[[Change, Change, State, Settings], tuple[Change | Array, State]]
