"""The door for weights: a matrix of finite float32 numbers, or a sentence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

# a quarter of what float32 holds: the difference of two weights, and their rounding, are then finite too
LARGEST = 2.0**126


def finite_matrix(weight: npt.ArrayLike) -> Float32:
    """The weight as float32 [rows, columns], without a copy where it already is.

    Raises:
        ValueError: it is not a matrix, or holds NaN, infinity, or numbers that no scale can reach.

    >>> finite_matrix([[1, 2]]).dtype.name
    'float32'
    """
    w = np.asarray(weight, np.float32)
    if w.ndim != 2:
        raise ValueError(f"expected a matrix [rows, columns], found shape {w.shape}")
    low, high = float(np.min(w, initial=0.0)), float(np.max(w, initial=0.0))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("expected finite weights, found NaN or infinity")
    if max(high, -low) > LARGEST:
        raise ValueError(f"expected weights up to {LARGEST:.2g}, found {max(high, -low):.2g}; rescale the layer")
    return w
