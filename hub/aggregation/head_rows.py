"""Trained heads of boards that hold different classes: class c is averaged by the rows of class c.

A board pushes down the classes that it lacks, so a plain mean of heads forgets whatever small boards hold. Weights
n_kc / sum_k n_kc leave each class to those who have it (the recipe "rows averaged over holders by class count"); a
class that nobody has keeps what was sent. What is averaged is the change of each class, so heads of several ranks,
which start from numbers of their own, learn from all boards: with one head it is the weighted mean of the heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hub.aggregation.method import Array
from wire.kinds.head import Head, pick


@dataclass(frozen=True)
class Rows:
    """The sum so far: weight [features, classes] and bias [classes] of changes times rows, and rows [classes]."""

    weight: Array
    bias: Array
    count: Array


def init(features: int, classes: int) -> Rows:
    """Nothing summed yet."""
    return Rows(np.zeros((features, classes)), np.zeros(classes), np.zeros(classes))


def apply(
    state: Rows, trained: Head, began: Head, rows: tuple[int, ...], trust: float = 1.0, passed: float = 1.0
) -> Rows:
    """Add the head of one board: as trained, as it began, and how many rows of each class it has.

    A robust rule may let its rows count `trust` times, and let only the part `passed` of its change through.
    """
    count = trust * np.asarray(rows, np.float64)
    weight = count * passed * (trained.weight.astype(np.float64) - began.weight)
    bias = count * passed * (trained.bias.astype(np.float64) - began.bias)
    return merge(state, Rows(weight, bias, count))


def merge(one: Rows, other: Rows) -> Rows:
    """The sum of two sums over different boards."""
    return Rows(one.weight + other.weight, one.bias + other.bias, one.count + other.count)


def finish(state: Rows, sent: Mapping[int, Head]) -> dict[int, Head]:
    """The heads of the next version, by rank as they were sent; without any, one of zeros was."""
    rows = np.where(state.count > 0, state.count, 1.0)  # a class that nobody has has no change either
    heads = sent or {0: blank(*state.weight.shape)}
    return {
        rank: Head((h.weight + state.weight / rows).astype(np.float32), (h.bias + state.bias / rows).astype(np.float32))
        for rank, h in heads.items()
    }


def began(sent: Mapping[int, Head], rank: int, features: int, classes: int) -> Head:
    """What a board of a rank started from."""
    return pick(sent, rank) or blank(features, classes)


def blank(features: int, classes: int) -> Head:
    """A head that knows nothing."""
    return Head(np.zeros((features, classes), np.float32), np.zeros(classes, np.float32))
