"""How training rows lie on boards: evenly, skewed by class (Dirichlet), or with classes that no other board has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
RANKS = (2, 4, 4, 8, 16)
SPLITS = ("iid", "dirichlet", "disjoint")
CONCENTRATION = 0.3
LEAST = 16  # rows of a board: a batch


def split(kind: str, labels: Rows, boards: int, seed: int) -> list[Rows]:
    """Indexes of the rows of each board; each row is on one board.

    Args:
        kind: of `SPLITS`; "dirichlet" draws each class's shares of the boards from a Dirichlet distribution of 0.3
            (Hsu et al., arXiv 1909.06335), again until each board has a batch (or, of
            few rows, half of its part).
        labels: [n].
        boards: how many.
        seed: of the draw.

    >>> [len(rows) for rows in split("disjoint", np.arange(20) % 10, 5, 0)]
    [4, 4, 4, 4, 4]
    """
    draw = np.random.default_rng([seed, SPLITS.index(kind)])
    order = draw.permutation(len(labels))
    if kind == "iid":
        return [np.sort(own) for own in np.array_split(order, boards)]
    least = min(LEAST, len(labels) // (2 * boards))  # of few rows a batch for each may be no draw at all
    classes = draw.permutation(np.unique(labels))
    if kind == "disjoint":
        owned = np.array_split(classes, boards)
        return [np.flatnonzero(np.isin(labels, own)) for own in owned]
    while True:
        found: list[list[Rows]] = [[] for _ in range(boards)]
        for one in classes:
            rows = order[labels[order] == one]
            cuts = np.cumsum(draw.dirichlet(np.full(boards, CONCENTRATION)))[:-1] * len(rows)
            for own, part in zip(found, np.split(rows, cuts.astype(int)), strict=True):
                own.append(part)
        joined = [np.sort(np.concatenate(own)) for own in found]
        if min(map(len, joined)) >= least:
            return joined


def batches(rows: Rows, count: int, size: int, seed: tuple[int, ...]) -> Rows:
    """Rows of `count` batches, [count, size]: one permutation of all after the other."""
    draw = np.random.default_rng(seed)
    need, found = count * size, list[Rows]()
    while sum(map(len, found)) < need:
        found.append(draw.permutation(rows))
    return np.concatenate(found)[:need].reshape(count, size)
