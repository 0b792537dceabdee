"""What a format loses: of weights against their restored form, and of the outputs that they make.

SQNR, the ratio of signal to quantization noise, is 20 log10(|w| / |w' - w|) dB in the Frobenius norm; a bit is
worth about 6 dB (Widrow, Kollar and Liu, "Statistical theory of quantization", IEEE Trans. Instrum. Meas. 45(2),
1996). Weights are compared cheaply; what a layer loses shows in its outputs, where large inputs count for more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK_ROWS = 1024

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Error:
    """What a format loses: of w' against w, over the whole array.

    `largest` is max |w' - w|; `relative` is |w' - w| / |w| in the Frobenius norm; `sqnr_db` is the ratio of
    signal to quantization noise, 20 log10(|w| / |w' - w|), infinite when nothing is lost; `cosine` is that of the
    angle between the two as vectors, 1 when both are zero.
    """

    largest: float
    relative: float
    sqnr_db: float
    cosine: float


def error(weight: npt.ArrayLike, restored: npt.ArrayLike) -> Error:
    """What was lost between a matrix and its restored form.

    Raises:
        ValueError: their shapes differ.

    >>> lost = error([[3.0, 4.0]], [[3.0, 4.5]])
    >>> lost.largest, lost.relative, lost.sqnr_db, round(lost.cosine, 4)
    (0.5, 0.1, 20.0, 0.9985)
    >>> error([[0.0]], [[0.0]]).sqnr_db
    inf
    """
    w, v = np.asarray(weight), np.asarray(restored)
    if w.shape != v.shape:
        raise ValueError(f"expected a restored weight of shape {w.shape}, found {v.shape}")
    # in blocks: an embedding table in float64, twice, would be more than all the rest of an export
    starts = range(0, len(w), BLOCK_ROWS)
    return _summed((w[i : i + BLOCK_ROWS].astype(np.float64), v[i : i + BLOCK_ROWS]) for i in starts)


def output_error(weight: npt.ArrayLike, restored: npt.ArrayLike, inputs: npt.ArrayLike) -> Error:
    """What was lost of the outputs x W^T of a layer, on calibration input.

    Args:
        weight: [out, in].
        restored: its restored form, of the same shape.
        inputs: [rows, in], what the layer was fed.

    Raises:
        ValueError: shapes do not agree, there are no rows, or a row holds NaN or infinity.

    >>> output_error([[3.0, 4.0]], [[3.0, 4.5]], [[1.0, 0.0]]).relative
    0.0
    """
    w, v = np.asarray(weight, np.float64), np.asarray(restored, np.float64)
    x = calibration(inputs, w.shape[-1])
    if w.shape != v.shape:
        raise ValueError(f"expected a restored weight of shape {w.shape}, found {v.shape}")
    starts = range(0, len(x), BLOCK_ROWS)
    return _summed((x[i : i + BLOCK_ROWS] @ w.T, x[i : i + BLOCK_ROWS] @ v.T) for i in starts)


def calibration(inputs: npt.ArrayLike, columns: int) -> Float64:
    """Calibration rows as float64 [rows, columns]; leading axes are flattened.

    Raises:
        ValueError: the last axis is not `columns` long, there are no rows, or one holds NaN or infinity.

    >>> calibration(np.ones((2, 3, 4)), 4).shape
    (6, 4)
    """
    x = np.asarray(inputs, np.float64)
    if x.ndim < 2 or x.shape[-1] != columns:
        raise ValueError(f"expected calibration rows of {columns} numbers, found shape {x.shape}")
    x = x.reshape(-1, columns)
    if not len(x):
        raise ValueError("expected at least one calibration row, found none")
    if not np.all(np.isfinite(x)):
        raise ValueError("expected finite calibration rows, found NaN or infinity")
    return x


def _summed(pairs: Iterable[tuple[Float64, npt.NDArray[np.floating]]]) -> Error:
    largest, noise, signal, other, common = 0.0, 0.0, 0.0, 0.0, 0.0
    for w, v in pairs:
        difference = v - w
        largest = max(largest, float(np.max(np.abs(difference), initial=0.0)))
        noise += float(np.vdot(difference, difference))
        signal += float(np.vdot(w, w))
        common += float(np.vdot(w, difference))
    # |v|^2 and <w, v> from the difference, so that a small one keeps its digits
    other = signal + 2.0 * common + noise
    cosine = _cosine(signal + common, signal, other)
    noise, signal = math.sqrt(noise), math.sqrt(signal)
    if noise == 0.0:
        return Error(largest, 0.0, math.inf, cosine)
    if signal == 0.0:
        return Error(largest, math.inf, -math.inf, cosine)
    return Error(largest, noise / signal, 20.0 * math.log10(signal / noise), cosine)


def _cosine(product: float, first: float, second: float) -> float:
    if first <= 0.0 or second <= 0.0:
        return 1.0 if first == second else 0.0
    return min(1.0, max(-1.0, product / math.sqrt(first * second)))
