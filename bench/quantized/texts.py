"""Labelled texts to judge an encoder and a decoder by."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim.docstrings import docstring_rows

SEED = 3


@dataclass(frozen=True)
class Texts:
    """Texts with the number of their label: those that are learnt from, and those that are judged by."""

    train: list[tuple[str, int]]
    test: list[tuple[str, int]]
    labels: int
    source: str


def read_texts(path: Path | None, train: int, test: int) -> Texts:
    """So many of each, as even over the labels as they are there.

    Args:
        path: JSON with `train` and `test`, lists of [text, label], as CLINC150 is published; the standard library's
            docstrings, labelled by package, if None.
        train: how many to learn from.
        test: how many to judge by.
    """
    if path is None:
        rows = docstring_rows()
        found = {split: [(row.text, row.label) for row in rows if row.split == split] for split in ("train", "test")}
    else:
        held = json.loads(path.read_text(encoding="utf-8"))
        found = {split: [(text, label) for text, label in held[split]] for split in ("train", "test")}
    names = sorted({label for pairs in found.values() for _, label in pairs})
    numbers = {name: number for number, name in enumerate(names)}
    chosen = {
        split: [(text, numbers[label]) for text, label in _even(found[split], count)]
        for split, count in (("train", train), ("test", test))
    }
    return Texts(chosen["train"], chosen["test"], len(names), path.name if path else "docstrings")


def _even(pairs: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """The first of each label in a drawn order, then the second, and so on."""
    drawn = np.random.default_rng(SEED).permutation(len(pairs))
    by: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for index in drawn:
        by[pairs[index][1]].append(pairs[index])
    longest = max(map(len, by.values()))
    return [of[k] for k in range(longest) for of in by.values() if k < len(of)][:count]
