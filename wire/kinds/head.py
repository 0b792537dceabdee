"""The linear head, and the additive statistics from which a hub solves it for everybody.

Head in a file: `head/weight` float32 [features, classes], `head/bias` float32 [classes].
Statistics in a file: `head/count` float64 [classes], `head/sum` float64 [classes, features] and the upper
triangle of sum x xT, `head/gram` float64 [features (features + 1) / 2]. They add: the sum over boards is the
statistic of the pooled data, under any split. They are valid for one version of the adapter only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KIND = "head"
WEIGHT, BIAS = "head/weight", "head/bias"
COUNT, SUM, GRAM = "head/count", "head/sum", "head/gram"


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
    return gram[np.triu_indices(len(gram))]


def square(upper: NDArray[np.float64], features: int) -> NDArray[np.float64]:
    """The symmetric matrix of an upper triangle: [D (D + 1) / 2] -> [D, D]."""
    gram = np.zeros((features, features))
    gram[np.triu_indices(features)] = upper
    full: NDArray[np.float64] = gram + np.triu(gram, 1).T
    return full
