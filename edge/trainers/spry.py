"""Forward gradients: adapters trained by running a model forward only.

Panchal, Parikh, Choudhary and Zhang, "Thinking Forward: Memory-Efficient Federated Finetuning of Language Models"
(Spry), NeurIPS 2024, arXiv 2405.15551. The derivative of the loss along a random direction v, times v, is an
unbiased estimate of the gradient, and its variance grows with the number of parameters; so the trainable arrays are
cut into units and dealt to boards (section 3.1).

    d_i = (L(theta + e v_i) - L(theta - e v_i)) / 2e        g = 1/K sum_i d_i v_i        E g = grad L + O(e^2)

It departs from the paper in two places. The paper takes d_i from forward-mode differentiation; central differences
give the same number in float32 and need no graph of their own. And v_i are signs instead of Gaussian: less
variance (|g|^2 is d instead of d + 2 times |grad L|^2 for K = 1), and two machines rebuild them bit for bit.

With K directions for P parameters the estimate has a cosine of about sqrt(K / P) with the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.trainers.directions import applied, kept, moved
from edge.trainers.interface import (
    Array,
    Arrays,
    Factors,
    Loss,
    Needs,
    NotFinite,
    Optimizer,
    Rows,
    Scalars,
    State,
    Stepped,
    Update,
)
from wire import forward_gradients
from wire.directions import Pairs, Units, combined
from wire.optimizers import Sgd


@dataclass(frozen=True)
class Spry:
    """A trainer of the units that a board was dealt.

    Per epoch (`publish="factors"`) a board takes its steps alone and sends its arrays; the hub averages each unit
    over the boards that held it. Per iteration (`publish="scalars"`) it sends a counter and a derivative for each
    direction, and `rebuild` makes the same arrays of them. `shared_gradient` is for boards that step together.

    Its state: `counter` uint64 [], the next direction; `pairs/counter` uint64 [n] and `pairs/scalar` float32 [n] of
    what was applied; `optimizer/...` whatever the optimizer keeps.

    Attributes:
        key: of the round, 128 bits.
        units: those of this board, by name.
        board: its number, so that boards with the same unit look in different directions.
        directions: K, for each step.
        epsilon: e.
        optimizer: takes the estimated gradient.
        publish: what an update carries.
    """

    key: int
    units: Units
    board: int = 0
    directions: int = 8
    epsilon: float = 1e-3
    optimizer: Optimizer = field(default_factory=Sgd)
    publish: Literal["factors", "scalars"] = "factors"

    @property
    def needs(self) -> Needs:
        """Two runs of the forward graph for each direction."""
        return "forward"

    def slower(self, share: float) -> Spry:
        """The same with a share of its rate; pairs are replayed at one rate, so then there is none.

        Raises:
            BadData: its update is pairs.
        """
        if self.publish == "scalars":
            raise BadData("expected a finite loss while pairs are published, found another; begin with a lower rate")
        return replace(self, optimizer=self.optimizer.slower(share))

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The state before the first step."""
        own = self.optimizer.begin({name: arrays[name] for name in self.trained()})
        return {**_inner(own), **kept(0, [])}

    def step(self, arrays: Arrays, state: State, rows: Rows) -> Stepped:
        """One step on some rows; the loss is the mean over both sides of all directions.

        Raises:
            NotFinite: a loss.
        """
        if rows.loss is None:
            raise BadData("expected a forward graph for forward gradients, found none; export the bundle with one")
        first = int(state["counter"])
        counters = range(first, first + self.directions)
        pairs, loss = estimate(rows.loss, arrays, self.units, self.key, self.board, counters, self.epsilon)
        made, own = self.optimizer.apply(arrays, _outer(state), gradient(pairs, self, arrays))
        sent = [*applied(state), *pairs] if self.publish == "scalars" else []
        return Stepped(made, {**_inner(own), **kept(counters.stop, sent)}, loss)

    def update(self, arrays: Arrays, state: State) -> Update:
        """The arrays as trained, or the pairs that rebuild them."""
        if self.publish == "scalars":
            return Scalars(self.key, tuple(applied(state)), self.directions)
        names = self.trained()
        return Factors({name: arrays[name] for name in names}, names)

    def trained(self) -> tuple[str, ...]:
        """The arrays of all its units."""
        return tuple(name for names in self.units.values() for name in names)


def deal(units: Sequence[str], boards: int) -> list[list[str]]:
    """Which units each board gets: in turn; where boards are more than units, units go round again.

    >>> deal(["a", "b", "c"], 2), deal(["a", "b"], 3)
    ([['a', 'c'], ['b']], [['a'], ['b'], ['a']])
    """
    if not units or boards < 1:
        raise ValueError(f"expected units and boards, found {len(units)} and {boards}")
    if boards > len(units):
        return [[units[board % len(units)]] for board in range(boards)]
    return [list(units[board::boards]) for board in range(boards)]


def estimate(
    loss: Loss, arrays: Arrays, units: Units, key: int, board: int, counters: Sequence[int], epsilon: float
) -> tuple[Pairs, float]:
    """(counter, d) for each direction, d as a float32 number, and the mean of all losses.

    Raises:
        NotFinite: a loss.
    """
    pairs: Pairs = []
    losses: list[float] = []
    for counter in counters:
        direction = combined(key, board, [(counter, 1.0)], units, arrays)
        up, down = (float(loss(moved(arrays, direction, side * epsilon))) for side in (1, -1))
        if not (math.isfinite(up) and math.isfinite(down)):
            found = down if math.isfinite(up) else up
            raise NotFinite(f"expected a finite loss along direction {counter}, found {found}; lower the learning rate")
        pairs.append((counter, float(np.float32((up - down) / (2 * epsilon)))))
        losses += [up, down]
    return pairs, sum(losses) / len(losses)


def gradient(pairs: Pairs, settings: Spry, like: Arrays) -> dict[str, Array]:
    """1/K sum d v for every array of the units: on the board, and bit for bit the same at the hub."""
    return forward_gradients.gradient(pairs, settings.key, settings.board, settings.units, like)


def rebuild(settings: Spry, start: Arrays, update: Scalars) -> dict[str, Array]:
    """The arrays that a board had after an update of pairs: the same steps from the same start, without a loss.

    Args:
        settings: as the board's, optimizer and all.
        start: the version that it started from.
        update: its pairs.
    """
    steps = update.steps()
    return forward_gradients.rebuild(start, steps, settings.key, settings.board, settings.units, settings.optimizer)


def shared_gradient(parts: Sequence[tuple[Spry, Pairs]], like: Arrays) -> dict[str, Array]:
    """The gradient of a step that boards take together: each unit's mean over the boards that held it.

    Args:
        parts: every board's settings, and its pairs of this step, in an order that all agree on.
        like: arrays of the same shapes.
    """
    sums: dict[str, Array] = {}
    held: dict[str, int] = {}
    for settings, pairs in parts:
        for name, g in gradient(pairs, settings, like).items():
            sums[name] = sums[name] + g if name in sums else g
            held[name] = held.get(name, 0) + 1
    return {name: total / np.float32(held[name]) for name, total in sums.items()}


def average_units(updates: Sequence[Factors], weights: Sequence[float], start: Arrays) -> dict[str, Array]:
    """Per epoch: each array is the weighted mean over the boards that trained it, or as it was where none did.

    >>> one, start = np.ones(1, np.float32), {"a": np.zeros(1, np.float32), "b": np.zeros(1, np.float32)}
    >>> sent = [Factors({"a": one}, ("a",)), Factors({"a": 4 * one}, ("a",))]
    >>> {n: a.tolist() for n, a in average_units(sent, [2, 1], start).items()}
    {'a': [2.0], 'b': [0.0]}
    """
    made = dict(start)
    for name in start:
        held = [
            (u.arrays[name].astype(np.float64), w) for u, w in zip(updates, weights, strict=True) if name in u.names
        ]
        if held:
            total = sum(w for _, w in held)
            made[name] = np.asarray(sum(a * (w / total) for a, w in held), np.float32)
    return made


def _inner(own: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"optimizer/{name}": array for name, array in own.items()}


def _outer(state: State) -> dict[str, NDArray[Any]]:
    return {name.removeprefix("optimizer/"): a for name, a in state.items() if name.startswith("optimizer/")}
