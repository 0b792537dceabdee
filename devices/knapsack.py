"""The multiple-choice knapsack: one option of each class, least total cost, total weight within a limit. Exact.

Nemhauser and Ullmann, "Discrete dynamic programming and capital allocation", Management Science 15(9), 1969: class
after class, of the partial sums only those are kept that no other one beats in weight and cost at once. Sums that
cannot lead to an optimum are dropped as well, by the Lagrangian bound (Kellerer, Pferschy and Pisinger, "Knapsack
Problems", 2004, chapter 11): for any price p >= 0 of weight,

    cost + p (weight - limit) + sum over the classes to come of min_j (cost_j + p weight_j)

is at most what the partial sum can still cost. With the price of the best bound it leaves few sums of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)

HALVINGS = 100  # of the interval of prices
MOST_SUMS = 1 << 17  # kept per class; beyond it the cheapest by their bound go on, and the answer has a gap
SLACK = 1e-12  # of sums in another order


@dataclass(frozen=True)
class Solution:
    """The option of each class; its cost; and what no choice costs less than, equal to the cost when it is optimal."""

    chosen: tuple[int, ...]
    cost: float
    bound: float


@dataclass(frozen=True, eq=False)
class Classes:
    """Weights and costs [classes, most options]; where a class has fewer, cost is infinite and weight 0."""

    weights: Ints
    costs: Floats

    @classmethod
    def of(cls, weights: Sequence[Sequence[int]], costs: Sequence[Sequence[float]]) -> Classes:
        """From ragged lists."""
        shape = len(weights), max((len(w) for w in weights), default=0)
        out = cls(np.zeros(shape, np.int64), np.full(shape, np.inf))
        for row, (w, c) in enumerate(zip(weights, costs, strict=True)):
            out.weights[row, : len(w)], out.costs[row, : len(c)] = w, c
        return out

    @property
    def least_weights(self) -> Ints:
        """Of each class."""
        return np.asarray(np.min(np.where(np.isfinite(self.costs), self.weights, np.iinfo(np.int64).max), axis=1))


def solve(classes: Classes, limit: int, most_sums: int = MOST_SUMS) -> Solution | None:
    """The choice of least cost, None if none is within the limit.

    Args:
        classes: at least one option each; weights may be 0, none negative.
        limit: of the total weight.
        most_sums: see `MOST_SUMS`; with fewer sums the answer may not be optimal, and its bound says so.

    >>> solve(Classes.of([[1, 4], [2, 3]], [[5.0, 1.0], [3.0, 2.5]]), 6)
    Solution(chosen=(1, 0), cost=4.0, bound=4.0)
    """
    if int(np.sum(classes.least_weights)) > limit:
        return None
    price = best_price(classes, limit)
    if price == 0.0:
        chosen = cheapest(classes, 0.0)
        return Solution(_listed(chosen), _total(classes, chosen), _total(classes, chosen))
    first = filled(classes, cheapest(classes, price), limit)
    return _swept(classes, limit, price, first, most_sums)


def cheapest(classes: Classes, price: float) -> Ints:
    """The option of each class of least cost when weight has a price; of equal ones the lightest."""
    priced = classes.costs + price * classes.weights
    weights = np.where(priced <= np.min(priced, axis=1, keepdims=True), classes.weights, np.iinfo(np.int64).max)
    return np.asarray(np.argmin(weights, axis=1))


def best_price(classes: Classes, limit: int) -> float:
    """The least price of weight at which the cheapest options are within the limit; there the bound is best."""

    def within(price: float) -> bool:
        return int(np.sum(_at(classes.weights, cheapest(classes, price)))) <= limit

    if within(0.0):
        return 0.0
    finite = np.where(np.isfinite(classes.costs), classes.costs, -np.inf)
    # a unit of weight is worth at most the dearest option: above that, the lightest are taken
    low, high = 0.0, float(np.max(np.max(finite, axis=1) - np.min(classes.costs, axis=1))) * 2 + np.finfo(float).tiny
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if within(middle) else (middle, high)
    return high


def filled(classes: Classes, chosen: Ints, limit: int) -> Ints:
    """A choice within the limit, improved class by class while room is left: most cost per weight first."""
    chosen, rows = chosen.copy(), np.arange(len(chosen))
    while True:
        gain = _at(classes.costs, chosen)[:, None] - classes.costs
        more = classes.weights - _at(classes.weights, chosen)[:, None]
        room = limit - int(np.sum(classes.weights[rows, chosen]))
        rate = np.where((gain > 0) & (more <= room), gain / np.maximum(more, 1e-3), 0.0)
        row, option = np.unravel_index(np.argmax(rate), rate.shape)
        if rate[row, option] <= 0.0:
            return chosen
        chosen[row] = option


def _swept(classes: Classes, limit: int, price: float, first: Ints, most_sums: int) -> Solution:
    """The sums class by class, pruned by a first choice; the best of both."""
    chosen, least = first, _total(classes, first)
    still = np.append(np.cumsum(classes.least_weights[::-1])[::-1], 0)
    dual = np.append(np.cumsum(np.min(classes.costs + price * classes.weights, axis=1)[::-1])[::-1], 0.0)
    slack = SLACK * (abs(least) + float(np.sum(np.max(np.where(np.isfinite(classes.costs), classes.costs, 0), axis=1))))
    weight, cost = np.zeros(1, np.int64), np.zeros(1)
    came: list[tuple[Ints, Ints]] = []
    dropped = np.inf
    for row in range(len(classes.costs)):
        options = np.flatnonzero(np.isfinite(classes.costs[row]))
        weights = (weight[:, None] + classes.weights[row, options]).reshape(-1)
        costs = (cost[:, None] + classes.costs[row, options]).reshape(-1)
        bounds = costs + price * (weights - limit) + dual[row + 1]
        kept = np.flatnonzero((weights + still[row + 1] <= limit) & (bounds <= least + slack))
        kept = kept[np.lexsort((costs[kept], weights[kept]))]
        before = np.append(np.inf, np.minimum.accumulate(costs[kept])[:-1]) if len(kept) else np.zeros(0)
        kept = kept[costs[kept] < before]
        if len(kept) > most_sums:
            order = np.argsort(bounds[kept], kind="stable")
            dropped = min(dropped, float(bounds[kept[order[most_sums]]]))
            kept = kept[order[:most_sums]]
        weight, cost = weights[kept], costs[kept]
        came.append((kept // len(options), options[kept % len(options)]))
    if len(cost) and float(np.min(cost)) < least:
        chosen = _traced(came, int(np.argmin(cost)))
        least = _total(classes, chosen)
    return Solution(_listed(chosen), least, min(least, dropped))


def _traced(came: list[tuple[Ints, Ints]], at: int) -> Ints:
    chosen = np.empty(len(came), np.int64)
    for row in range(len(came) - 1, -1, -1):
        parents, options = came[row]
        chosen[row], at = options[at], int(parents[at])
    return chosen


def _at(values: npt.NDArray[Number], chosen: Ints) -> npt.NDArray[Number]:
    return values[np.arange(len(chosen)), chosen]


def _total(classes: Classes, chosen: Ints) -> float:
    return float(np.sum(_at(classes.costs, chosen)))


def _listed(chosen: Ints) -> tuple[int, ...]:
    return tuple(int(option) for option in chosen)
