"""Rows of public data sets from a folder that is given; what is not there is said and left out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.data.row import Row

INTENTS = 15  # of CLINC150, the first by name in each of five domains of its order
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049  # of an IDX file: its type and how many dimensions it has


def sst2(folder: Path) -> tuple[list[Row], list[Row]]:
    """Sentences of film reviews, negative or positive (Socher et al., 2013): to train on, and to test."""
    return _tsv(folder / "sst2" / "train.tsv"), _tsv(folder / "sst2" / "dev.tsv")


def _tsv(path: Path) -> list[Row]:
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.rsplit("\t", 1) for line in lines if "\t" in line]
    return [Row(text, int(label)) for text, label in pairs]


def clinc150(folder: Path, intents: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Commands of some intents (Larson et al., 2019): to train on, and to test."""
    splits = json.loads((folder / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    place = {name: i for i, name in enumerate(intents)}
    train, test = ([Row(text, place[label]) for text, label in splits[s] if label in place] for s in ("train", "test"))
    return train, test


def intents_of(folder: Path, count: int = INTENTS) -> tuple[str, ...]:
    """Some of the intents, spread over their names in order, so that several domains are among them."""
    splits = json.loads((folder / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    names = sorted({label for _, label in splits["train"]})
    return tuple(names[i * len(names) // count] for i in range(count))


def mnist(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Handwritten digits: pictures [n, 1, 28, 28] from 0 to 1, and labels [n].

    Raises:
        ValueError: a file is no IDX file of its kind.
    """
    pictures = _idx(folder / "mnist" / "images.idx3.gz", IMAGES_MAGIC, 16)
    labels = _idx(folder / "mnist" / "labels.idx1.gz", LABELS_MAGIC, 8)
    return pictures.reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255), labels.astype(np.int64)


def _idx(path: Path, magic: int, header_bytes: int) -> NDArray[np.uint8]:
    data = gzip.decompress(path.read_bytes())
    if int.from_bytes(data[:4], "big") != magic:
        raise ValueError(f"expected an IDX file in {path}, found something else; take the files of the MNIST mirror")
    return np.frombuffer(data, np.uint8, offset=header_bytes)
