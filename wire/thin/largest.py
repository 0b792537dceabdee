"""The largest differences alone, and where they are: top-k sparsification.

Aji, Heafield, "Sparse Communication for Distributed Gradient Descent", arXiv 1704.05021, section 3; what is left out
is remembered (`wire.thin.feedback`). Of each array [n] the k = ceil(fraction n) largest by size go, of equals the
first, in the order of their places. Values are `wire.thin.blocks` of 8 bits, `thin/codes` and `thin/steps`; places are
`thin/gaps` uint8: how many are passed over before the next value, 255 being 255 passed over without a value after them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.thin import blocks

Array = NDArray[np.float32]
GAPS = "thin/gaps"
SKIP = 255
BITS = 8


def kept(size: int, fraction: float) -> int:
    """How many of so many differences go.

    >>> kept(1000, 0.05), kept(3, 0.05), kept(0, 0.05)
    (50, 1, 0)
    """
    return math.ceil(size * fraction)


def encode(values: Array, fraction: float) -> dict[str, NDArray[Any]]:
    """Tensors of differences [n].

    >>> encode(np.array([0, 3, 0, -4], np.float32), 0.5)["thin/gaps"].tolist()
    [1, 1]
    """
    places = np.sort(np.argsort(-np.abs(values), kind="stable")[: kept(len(values), fraction)])
    return {**blocks.encode(values[places], BITS), GAPS: _gaps(places)}


def decode(tensors: Mapping[str, NDArray[Any]], sizes: Sequence[int], fraction: float) -> list[Array]:
    """The differences of arrays of these sizes, 0 where none is said.

    Raises:
        ValueError: the tensors are of other lengths, or name a place that is not there.
    """
    counts = [kept(size, fraction) for size in sizes]
    gaps, found, at = tensors[GAPS], [], 0
    if gaps.ndim != 1 or len(gaps) > sum(counts) + sum(size // SKIP for size in sizes):
        raise ValueError(f"{GAPS} is {list(gaps.shape)}, more than {sum(counts)} places need")
    values = blocks.decode(tensors, counts, BITS)
    ends = np.flatnonzero(gaps != SKIP) + 1
    if len(ends) != sum(counts) or (len(ends) and ends[-1] != len(gaps)) or (len(gaps) and not len(ends)):
        raise ValueError(f"{GAPS} says {len(ends)} places instead of {sum(counts)}")
    done = 0
    for size, count, own in zip(sizes, counts, values, strict=True):
        end = int(ends[done + count - 1]) if count else at
        places = _places(gaps[at:end])
        if count and places[-1] >= size:
            raise ValueError(f"{GAPS} names place {int(places[-1])} of {size}")
        whole = np.zeros(size, np.float32)
        whole[places] = own
        found.append(whole)
        done, at = done + count, end
    return found


TENSORS = {**blocks.tensors_of(BITS), GAPS: np.dtype(np.uint8)}


def _gaps(places: NDArray[np.int64]) -> NDArray[np.uint8]:
    passed = np.diff(places, prepend=-1) - 1
    skips = passed // SKIP
    made = np.full(len(places) + int(skips.sum()), SKIP, np.uint8)
    made[np.arange(len(places)) + np.cumsum(skips)] = passed % SKIP
    return made


def _places(gaps: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The places that gaps name; the last one is the largest."""
    ends = gaps != SKIP
    places: NDArray[np.int64] = (np.cumsum(gaps.astype(np.int64)) + np.cumsum(ends) - 1)[ends]
    return places
