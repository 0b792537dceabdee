"""The linear head, and the additive statistics from which a hub solves it for everybody.

A head belongs to the features that it was solved for, and a prefix of a ladder makes features of its own. So heads
and statistics are kept by rank: `head/RANK/weight` float32 [features, classes] and `head/RANK/bias` float32
[classes]; `statistics/RANK/count` float64 [classes], `statistics/RANK/sum` float64 [classes, features] and the upper
triangle of sum x xT, `statistics/RANK/gram` float64 [features (features + 1) / 2]. Statistics add: the sum over
boards is the statistic of the pooled data, under any split. They are valid for one version of the adapter only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wire.json_text import parse_json

ROWS = "rows"  # of the metadata
HEAD_PARTS, STATISTICS_PARTS = ("weight", "bias"), ("count", "sum", "gram")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Head:
    """weight [features, classes], bias [classes]; logits = x weight + bias."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class Statistics:
    """count [classes], sum [classes, features], gram [features, features], all float64."""

    count: NDArray[np.float64]
    sum: NDArray[np.float64]
    gram: NDArray[np.float64]

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(self.count + other.count, self.sum + other.sum, self.gram + other.gram)


def names(kind: str, rank: int) -> tuple[str, ...]:
    """Tensor names of a head or of statistics at a rank.

    >>> names("head", 8)
    ('head/8/weight', 'head/8/bias')
    """
    return tuple(f"{kind}/{rank}/{part}" for part in (HEAD_PARTS if kind == "head" else STATISTICS_PARTS))


def pick(by_rank: Mapping[int, Value], rank: int) -> Value | None:
    """What belongs to a rank: that of the largest rank up to it, or else of the smallest; None of nothing.

    >>> pick({2: "two", 8: "eight"}, 16), pick({2: "two", 8: "eight"}, 7), pick({2: "two"}, 0)
    ('eight', 'two', 'two')
    """
    if not by_rank:
        return None
    return by_rank[max((r for r in by_rank if r <= rank), default=min(by_rank))]


def rows_text(count: Sequence[int]) -> str:
    """What the metadata of a trained head says of the rows that it was trained on: how many of each class.

    >>> rows_text([3, 0])
    '[3,0]'
    """
    return json.dumps(list(count), separators=(",", ":"))


def read_rows(text: str) -> tuple[int, ...] | None:
    """The same, read; None if it is something else.

    >>> read_rows("[3,0]"), read_rows("[-1]"), read_rows("many")
    ((3, 0), None, None)
    """
    try:
        found = parse_json(text)
    except ValueError:
        return None
    good = isinstance(found, list) and all(type(n) is int and 0 <= n < 2**53 for n in found)
    return tuple(found) if good else None


def gather(features: NDArray[np.float32], classes: NDArray[np.int64], class_count: int) -> Statistics:
    """Statistics of some rows: features [n, D], classes [n] in 0..class_count-1.

    >>> s = gather(np.ones((3, 2), np.float32), np.array([0, 2, 2]), 3)
    >>> s.count.tolist(), s.gram.tolist()
    ([1.0, 0.0, 2.0], [[3.0, 3.0], [3.0, 3.0]])
    """
    x = features.astype(np.float64)
    onehot = np.zeros((len(classes), class_count))
    onehot[np.arange(len(classes)), classes] = 1.0
    return Statistics(onehot.sum(axis=0), onehot.T @ x, x.T @ x)


def triangle(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upper triangle, row by row: [D, D] -> [D (D + 1) / 2]."""
    return np.concatenate([gram[i, i:] for i in range(len(gram))] or [np.zeros(0)])


def square(upper: NDArray[np.float64], features: int) -> NDArray[np.float64]:
    """The symmetric matrix of an upper triangle: [D (D + 1) / 2] -> [D, D]."""
    gram, at = np.zeros((features, features)), 0
    for i in range(features):  # row by row: indices of all places would take four times the matrix
        row = upper[at : at + features - i]
        gram[i, i:], gram[i:, i], at = row, row, at + features - i
    return gram
