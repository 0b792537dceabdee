"""Which runs there are: rows of a task, boards of a split, methods and their recipes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.learning.pack import Pack
from bench.learning.recipes import Recipe
from bench.learning.rounds import Run
from bench.learning.splits import RANKS, SPLITS, split
from hub.aggregation.methods import METHODS

TRAIN_ROWS = 3000
PARTS = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Task:
    """A task's labels [n], and the rows of each part."""

    name: str
    data: str
    labels: NDArray[np.int64]
    parts: dict[str, NDArray[np.int64]]

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that mean something: five boards cannot have classes of their own where there are two."""
        return SPLITS if self.labels.max() >= len(RANKS) - 1 else SPLITS[:2]


def task_of(pack: Pack, name: str, thin: int = 1) -> Task:
    """A task of a pack, or of every so many rows of it."""
    data = pack.tasks()[name]
    part = pack.arrays[f"{data}/part"]
    return Task(
        name,
        data,
        pack.arrays[f"{data}/labels/{name}"],
        {own: np.flatnonzero(part == i)[::thin] for own, i in PARTS.items()},
    )


def rows_of(task: Task, seed: int) -> NDArray[np.int64]:
    """The rows that a seed trains on: as many of each class as of any other, or nearly."""
    pool = np.random.default_rng([seed, 99]).permutation(task.parts["train"])
    labels = task.labels[pool]
    place = np.empty(len(pool), np.int64)  # which of its class a row is
    for one in np.unique(labels):
        place[labels == one] = np.arange((labels == one).sum())
    return np.sort(pool[np.argsort(place, kind="stable")[:TRAIN_ROWS]])


def runs_of(task: Task, recipes: Mapping[str, Recipe], seeds: Iterable[int]) -> list[Run]:
    """Every recipe on every split with every seed; "alone" is a run per board."""
    found = []
    for seed in seeds:
        rows = rows_of(task, seed)
        for kind in task.splits:
            boards = [rows[own] for own in split(kind, task.labels[rows], len(RANKS), seed)]
            for name, recipe in recipes.items():
                if name == "alone":
                    found += [
                        Run(name, kind, seed, [own], (rank,), recipe, k)
                        for k, (own, rank) in enumerate(zip(boards, RANKS, strict=True))
                    ]
                elif name == "centralised":  # one model knows no split: it learns once, see `everywhere`
                    if kind == task.splits[0]:
                        found.append(Run(name, kind, seed, [np.sort(rows)], (max(RANKS),), recipe))
                else:
                    equal = (min(RANKS),) * len(RANKS)
                    found.append(Run(name, kind, seed, boards, equal if METHODS[name].equal_ranks else RANKS, recipe))
    return found


def everywhere(task: Task, told: dict[str, Any]) -> list[dict[str, Any]]:
    """What is told of a run, for each split that it is compared in: those that see all rows know none."""
    return [{**told, "split": kind} for kind in task.splits] if told["name"] in {"centralised", "head-only"} else [told]
