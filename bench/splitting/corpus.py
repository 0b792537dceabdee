"""Rows of the two tasks: restaurant descriptions from their attributes (E2E), and film reviews (SST-2)."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.learning import texts
from export.study.data import Items

FOODS = ("Chinese", "English", "")
MIDDLE = " => "


@dataclass(frozen=True)
class Rows:
    """Texts [n], how much of each is given and not learned (characters), their class, and what part they are in."""

    sentences: list[str]
    given: list[int]
    labels: NDArray[np.int64]
    part: NDArray[np.int64]

    def of(self, part: int) -> NDArray[np.int64]:
        """Indexes of a part."""
        return np.flatnonzero(self.part == part)

    def items(self, chosen: NDArray[np.int64], names: tuple[str, ...]) -> Items:
        """Some of them as the exporter reads rows."""
        sentences = tuple(self.sentences[i] for i in chosen)
        labels = tuple(names[self.labels[i]] for i in chosen) if names else ()
        return Items(sentences, labels=labels, places=tuple(f"row {i}" for i in chosen), total=len(chosen))


def e2e(folder: Path) -> Rows:
    """Novikova et al., 2017: devset.csv to learn from, the restaurants of testset_w_refs.csv halved to judge by.

    The class of a row is the kind of food, by which boards differ.
    """
    train, test = (_pairs(folder / "e2e" / name) for name in ("devset.csv", "testset_w_refs.csv"))
    restaurants = sorted({given for given, _ in test})
    order = np.random.default_rng(2017).permutation(len(restaurants))
    first = {restaurants[i] for i in order[: len(order) // 2]}
    part = [texts.TRAIN] * len(train) + [texts.VALIDATION if given in first else texts.TEST for given, _ in test]
    rows = [*train, *test]
    labels = [next(i for i, food in enumerate(FOODS) if not food or f"food={food}" in given) for given, _ in rows]
    sentences = [given + MIDDLE + wanted for given, wanted in rows]
    return Rows(sentences, [len(given + MIDDLE) for given, _ in rows], np.array(labels), np.array(part))


def _pairs(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        found = [(re.sub(r"\[([^\]]*)\]", r"=\1", row["mr"]), row["ref"]) for row in csv.DictReader(file)]
    return [(given, " ".join(wanted.split())) for given, wanted in found]


def sst2(folder: Path) -> Rows:
    """Socher et al., 2013, in the parts of `bench.learning`."""
    own = texts.sst2(folder)
    return Rows(own.sentences, [0] * len(own.sentences), own.labels["sst2"], own.part)


def general(folder: Path) -> list[str]:
    """Text that has nothing to do with restaurants: what the small decoder is made from."""
    own = texts.sst2(folder).sentences
    return own + (texts.clinc(folder).sentences if (folder / texts.NEEDED["clinc"][0]).is_file() else [])
