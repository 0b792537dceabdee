"""Differences as float16: half the bytes, each within 2^-11 of its size.

`thin/half` float16 [n], all arrays of the update one after the other. What does not fit float16 goes as its largest
number, which the residual then holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
HALF = "thin/half"
LARGEST = float(np.finfo(np.float16).max)


def encode(values: Array) -> dict[str, NDArray[Any]]:
    """Tensors of differences [n].

    >>> encode(np.array([0.5, 1e9], np.float32))["thin/half"].tolist()
    [0.5, 65504.0]
    """
    return {HALF: np.clip(values, -LARGEST, LARGEST).astype(np.float16)}


def decode(tensors: Mapping[str, NDArray[Any]], sizes: Sequence[int]) -> list[Array]:
    """The differences of arrays of these sizes.

    Raises:
        ValueError: the tensors are of another length.
    """
    whole = tensors[HALF]
    if whole.shape != (sum(sizes),):
        raise ValueError(f"{HALF} is {list(whole.shape)} instead of [{sum(sizes)}]")
    return np.split(whole.astype(np.float32), np.cumsum(sizes, dtype=np.int64)[:-1])


TENSORS = {HALF: np.dtype(np.float16)}
