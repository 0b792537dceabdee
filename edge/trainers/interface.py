"""What every trainer has in common: data and slots in, an update out, and a state that survives a restart.

A trainer is a frozen record of settings, and its methods are pure: `step` returns new arrays and a new state and
leaves those that it was given alone. So a step whose loss is not finite is undone by forgetting what it returned,
and what a checkpoint holds is all there is: after a restart the same bytes come out.

Arrays are keyed by what the graph calls its inputs: two factors per slot, a bias, scales.
What a trainer asks about the rows of a step is a `Rows`; who makes it knows the graphs, the rows and their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData

Array = NDArray[np.float32]
Arrays = Mapping[str, Array]
# flat names, fixed dtypes, nothing but arrays: what npz and safetensors hold
State = Mapping[str, NDArray[Any]]
Loss = Callable[[Arrays], float]
Needs = Literal["backward", "forward", "scales", "features"]


class NotFinite(BadData):
    """A loss or a gradient that is infinite or no number: the step is undone, and a lower rate may do."""


@dataclass(frozen=True)
class Gradients:
    """Sums over the rows of one graph run: `edge.chain` returns such sums.

    Attributes:
        loss: the sum of the rows' losses.
        by_input: the sum of the rows' gradients, each in the shape of its array.
        rows: how many rows.
    """

    loss: float
    by_input: Arrays
    rows: int


@dataclass(frozen=True)
class Rows:
    """The rows of one step, as far as a trainer can see them; a graph that is not there leaves None.

    Attributes:
        loss: their mean loss for the arrays given; a forward graph.
        gradients: sums per micro-batch, in order, for the arrays given; a backward graph.
        features: float32 [rows, features] and targets float64 [rows, outputs]; a feature graph.
    """

    loss: Loss | None = None
    gradients: Callable[[Arrays], list[Gradients]] | None = None
    features: Callable[[], tuple[Array, NDArray[np.float64]]] | None = None


@dataclass(frozen=True)
class Stepped:
    """What a step leaves: new arrays, the state that goes with them, and the mean loss, if a trainer has one."""

    arrays: dict[str, Array]
    state: dict[str, NDArray[Any]]
    loss: float | None


@dataclass(frozen=True)
class Factors:
    """An update that carries arrays as trained, of which `names` were trained."""

    arrays: Arrays
    names: tuple[str, ...]


@dataclass(frozen=True)
class Scalars:
    """An update that carries (counter, scalar) pairs; who knows the key rebuilds the rest with `wire.philox`.

    Attributes:
        key: of the Philox streams, 128 bits.
        pairs: in the order in which they were applied; the scalars are float32 numbers.
        per_step: pairs that make one step.
    """

    key: int
    pairs: tuple[tuple[int, float], ...]
    per_step: int

    def steps(self) -> list[list[tuple[int, float]]]:
        """The pairs step by step.

        >>> Scalars(1, ((0, 0.5), (1, 0.25), (2, 1.0), (3, 2.0)), 2).steps()
        [[(0, 0.5), (1, 0.25)], [(2, 1.0), (3, 2.0)]]
        """
        return [list(self.pairs[i : i + self.per_step]) for i in range(0, len(self.pairs), self.per_step)]


@dataclass(frozen=True)
class Additive:
    """An update that adds to others of its kind: sums over rows, all float64."""

    sums: Mapping[str, NDArray[np.float64]]


Update = Factors | Scalars | Additive


class Optimizer(Protocol):
    """What turns gradients into steps."""

    def slower(self, share: float) -> Optimizer:
        """The same with a share of its rate."""

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The state before the first step."""

    def apply(
        self, arrays: Arrays, state: State, gradients: Arrays
    ) -> tuple[dict[str, Array], dict[str, NDArray[Any]]]:
        """Arrays and state after a step; arrays without a gradient stay as they are."""


class Trainer(Protocol):
    """One way to learn."""

    @property
    def needs(self) -> Needs:
        """The graph without which it cannot work."""

    def slower(self, share: float) -> Trainer:
        """The same with a share of its rate, for after a step that was undone."""

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The state before the first step."""

    def step(self, arrays: Arrays, state: State, rows: Rows) -> Stepped:
        """One step on some rows.

        Raises:
            NotFinite: the loss or a gradient; the arrays and the state that were given still stand.
            BadData: a row cannot be read, or the graphs are not those that it needs.
        """

    def update(self, arrays: Arrays, state: State) -> Update:
        """What the hub is sent."""
