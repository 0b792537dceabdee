"""Symmetric 8-bit integers with one scale per row.

    q = round(w / s),  s = max |w| / 127 of the row,  w' = s q

Krishnamoorthi 2018, arXiv:1806.08342, sections 2.3 (symmetric) and 3.1 (per channel). The range is -127 to
127, not -128: a row and its negative then quantize to each other's negative. A row is an output channel of
a linear layer stored as [out, in], or a row of an embedding table.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from quant.matrix import Float32, finite_matrix

LIMIT = 127

Int8 = npt.NDArray[np.int8]


def quantize_rows(weight: npt.ArrayLike) -> tuple[Int8, Float32]:
    """Integers and scales of a matrix.

    Args:
        weight: [rows, columns], finite.

    Returns:
        q int8 [rows, columns] and s float32 [rows]. A row of zeros has scale 1, since a scale of 0 would
        make readers divide by it.

    Raises:
        ValueError: it is not a matrix, or holds NaN or infinity.

    >>> q, s = quantize_rows([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]])
    >>> q.tolist(), (s * 127).round(3).tolist()
    ([[64, -127, 32], [0, 0, 0]], [2.0, 127.0])
    """
    w = finite_matrix(weight)
    peak = np.max(np.abs(w), axis=1, initial=0.0)
    scale = (peak / LIMIT).astype(np.float32)
    # the least normal number: below it a quotient has lost its digits
    scale = np.where(scale < np.finfo(np.float32).tiny, np.float32(1), scale)
    q = np.clip(np.rint(w / scale[:, None]), -LIMIT, LIMIT).astype(np.int8)
    return q, scale


def dequantize_rows(q: Int8, scale: Float32) -> Float32:
    """The matrix that integers and scales stand for, float32 [rows, columns].

    >>> dequantize_rows(np.array([[64, -127]], np.int8), np.array([0.25], np.float32)).tolist()
    [[16.0, -31.75]]
    """
    return q.astype(np.float32) * scale.astype(np.float32)[:, None]
