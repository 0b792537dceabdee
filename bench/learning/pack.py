"""All that a run needs in one file: tokens, labels and the encoder's weights, so that it can run on another machine."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.files import write_atomic

WORDS = "embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class Pack:
    """Arrays by name: `DATA/ids` [n, tokens], `DATA/lengths`, `DATA/part`, `DATA/labels/TASK`, `weights/NAME`.

    Weights are in float16, as they are used everywhere, and word embeddings only those of words that occur.
    """

    arrays: dict[str, NDArray[Any]]

    def tasks(self) -> dict[str, str]:
        """The data set of each task."""
        named = [name.split("/") for name in self.arrays if "/labels/" in name]
        return {task: data for data, _, task in named}


def read(path: Path) -> Pack:
    """A pack from a file that `write` wrote."""
    with np.load(path, allow_pickle=False) as found:
        return Pack({name: found[name] for name in found.files})


def write(pack: Pack, path: Path) -> None:
    """Write a pack."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **pack.arrays)  # type: ignore[arg-type]  # its stub takes the arrays for a flag
    write_atomic(path, stream.getvalue())
