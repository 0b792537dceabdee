"""Rows of the data sets: sentences, labels, and which part a row belongs to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.accuracy import sources
from bench.learning.domains import domains

NEEDED = {"sst2": ("sst2/train.tsv", "sst2/dev.tsv"), "clinc": ("clinc150/data_full.json",)}
TRAIN, VALIDATION, TEST = 0, 1, 2
SST2_VALIDATION, SST2_TEST = 1000, 2000  # of the rows of train.tsv, whose own test set is small
TOKENS = {"sst2": 32, "clinc": 16}


@dataclass(frozen=True)
class Texts:
    """Sentences [n], their part [n], and the labels [n] of each task on them."""

    sentences: list[str]
    part: NDArray[np.int64]
    labels: dict[str, NDArray[np.int64]]


def sst2(folder: Path) -> Texts:
    """Film reviews: rows of train.tsv in three parts by a fixed permutation, dev.tsv in the test part."""
    own, dev = sources.sst2(folder)
    order = np.random.default_rng(2013).permutation(len(own))
    part = np.full(len(own), TRAIN)
    part[order[:SST2_VALIDATION]] = VALIDATION
    part[order[SST2_VALIDATION : SST2_VALIDATION + SST2_TEST]] = TEST
    rows = [*own, *dev]
    labels = np.array([row.label for row in rows])
    return Texts([str(row.sample) for row in rows], np.append(part, np.full(len(dev), TEST)), {"sst2": labels})


def clinc(folder: Path) -> Texts:
    """Commands in the parts of their authors, without those of no intent, by domain and by intent."""
    splits = json.loads((folder / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    place = {intent: (i, j) for i, intents in enumerate(domains().values()) for j, intent in enumerate(intents)}
    rows = [(text, label, part) for part, name in enumerate(("train", "val", "test")) for text, label in splits[name]]
    where = [place[label] for _, label, _ in rows]
    labels = {"clinc10": np.array([i for i, _ in where]), "clinc150": np.array([15 * i + j for i, j in where])}
    return Texts([text for text, _, _ in rows], np.array([part for *_, part in rows]), labels)
