"""Real numbers as integers modulo 2^64, so that masks cancel without a trace and sums are exact.

A value v becomes round(v 2^f) modulo 2^64. Values of so many boards below a bound cannot run over if
boards * bound * 2^f < 2^63 (`wire.masks.told.room`); then the sum of the integers is the integer of the sum, and what
is lost is the rounding of each board alone: at most boards * 2^-(f + 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData

Words = NDArray[np.uint64]


def encode(values: NDArray[np.float64], bound: float, fraction_bits: int) -> Words:
    """Values as integers.

    Raises:
        BadData: one is beyond the bound, or not finite.
    """
    largest = float(np.max(np.abs(values), initial=0.0))
    if not largest <= bound:
        raise BadData(f"expected numbers up to {bound:g} for a sum under masks, found {largest:g}; see docs/privacy.md")
    return np.rint(np.ldexp(values, fraction_bits)).astype(np.int64).view(np.uint64)


def decode(words: Words, fraction_bits: int) -> NDArray[np.float64]:
    """Integers as values.

    >>> decode(encode(np.array([0.25, -3.0]), 4.0, 8) + encode(np.array([0.5, 1.0]), 4.0, 8), 8).tolist()
    [0.75, -2.0]
    """
    return np.ldexp(words.view(np.int64).astype(np.float64), -fraction_bits)
