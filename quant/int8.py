"""Symmetric 8-bit integers with one scale per row.

    q = round(w / s),  s = max |w| / 127 of the row,  w' = s q

Krishnamoorthi 2018, arXiv:1806.08342, sections 2.3 (symmetric) and 3.1 (per channel). The range is -127 to
127, not -128: a row and its negative then quantize to each other's negative. A row is an output channel of
a linear layer stored as [out, in], or a row of an embedding table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LIMIT = 127
BLOCK_ROWS = 1024

Int8 = npt.NDArray[np.int8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Error:
    """What a format loses: of w' against w, over the whole matrix.

    `largest` is max |w' - w|; `relative` is |w' - w| / |w| in the Frobenius norm; `sqnr_db` is the ratio of
    signal to quantization noise, 20 log10(|w| / |w' - w|), infinite when nothing is lost.
    """

    largest: float
    relative: float
    sqnr_db: float


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
    w = np.asarray(weight, np.float32)
    if w.ndim != 2:
        raise ValueError(f"expected a matrix [rows, columns], found shape {w.shape}")
    peak = np.max(np.abs(w), axis=1, initial=0.0)
    if not np.all(np.isfinite(peak)):
        raise ValueError("expected finite weights, found NaN or infinity")
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


def error(weight: npt.ArrayLike, restored: npt.ArrayLike) -> Error:
    """What was lost between a matrix and its restored form, of the same shape.

    >>> error([[3.0, 4.0]], [[3.0, 4.5]])
    Error(largest=0.5, relative=0.1, sqnr_db=20.0)
    >>> error([[0.0]], [[0.0]]).sqnr_db
    inf
    """
    w, v = np.asarray(weight), np.asarray(restored)
    largest, noise, signal = 0.0, 0.0, 0.0
    # in blocks: an embedding table in float64, twice, would be more than all the rest of an export
    for start in range(0, len(w), BLOCK_ROWS):
        block = w[start : start + BLOCK_ROWS].astype(np.float64)
        difference = v[start : start + BLOCK_ROWS] - block
        largest = max(largest, float(np.max(np.abs(difference), initial=0.0)))
        noise += float(np.vdot(difference, difference))
        signal += float(np.vdot(block, block))
    noise, signal = math.sqrt(noise), math.sqrt(signal)
    if noise == 0.0:
        return Error(largest, 0.0, math.inf)
    if signal == 0.0:
        return Error(largest, math.inf, -math.inf)
    return Error(largest, noise / signal, 20.0 * math.log10(signal / noise))
