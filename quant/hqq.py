"""Zero points and scales by half-quadratic steps: 4- and 8-bit blocks without calibration data.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", Mobius Labs, 2023
(mobiusml.github.io/hqq_blog): the error counts as sum |w - w'|^p with p < 1, so that a few outliers may err and the
many do not. An auxiliary error e splits the problem (half-quadratic), and two steps alternate:

    (SP1)  e = shrink(w - w'),  shrink(x) = sign(x) max(0, |x| - |x|^(p-1) / beta)     proximal step of |e|^p
    (SP2)  z = mean(q - (w - e) / s)   over the block                                   least squares in z
           beta grows by kappa

Float zero points are found so, with the scales of rounding. A whole zero point cannot: moving the grid by a step
changes nothing but what is clipped. There (SP2) solves for the scale instead:

           s = <w - e, q - z> / |q - z|^2                                               least squares in s

Two more things differ from the released code: errors are taken in steps of the first scale, so that beta means the
same for every block (there, errors below about 0.2 are all shrunk to zero, however small the weights); and each block
keeps the best that it met, so that none is worse than by rounding. The steps stay near where they start, on purpose:
the least sum |e|^0.7 of all grids cuts off so many outliers that a Gaussian weight loses 5 dB (measured).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from quant.blocks import Blocks, Float64, checked, grid, in_blocks, to_grid, usable
from quant.matrix import Float32, UInt8

NORM = 0.7
BETA = 10.0
KAPPA = 1.01
STEPS = 20
ROWS_AT_ONCE = 256

Zeros = Literal["none", "whole", "float"]


def quantize_hqq(weight: npt.ArrayLike, bits: int = 4, block: int = 32, zeros: Zeros = "whole") -> Blocks:
    """Blocks that make sum |w - w'|^0.7 small.

    Args:
        weight: [rows, columns], finite.
        bits: 4 or 8.
        block: 16, 32, 64 or 128 columns; must divide them.
        zeros: zero points: none (symmetric), whole, or float. Float ones lose least, but only MatMulNBits with 4
            bits takes them, and then multiplies float activations whatever its accuracy level.

    Raises:
        ValueError: the weight is no finite matrix, the block does not divide its columns, or zero points are to be
            float with 8 bits.

    >>> quantize_hqq([[3.0] * 15 + [-5.0]], block=16).zero.dtype.name
    'uint8'
    """
    if zeros not in {"none", "whole", "float"}:
        raise ValueError(f"expected zero points none, whole or float, found '{zeros}'")
    if bits == 8 and zeros == "float":
        raise ValueError("expected 4 bits with float zero points, found 8, which MatMulNBits refuses")
    w = checked(weight, bits, block)
    shape = (w.shape[0], w.shape[1] // block)
    scale = np.empty(shape, np.float32)
    zero: UInt8 | Float32
    zero = np.empty(shape, np.float32) if zeros == "float" else np.empty(shape, np.uint8)
    q = np.empty(w.shape, np.uint8)
    for start in range(0, len(w), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        part = in_blocks(w[rows], block).astype(np.float64)
        if zeros == "float":
            scale[rows], zero[rows] = with_float_zeros(part, bits)
        else:
            scale[rows], zero[rows] = with_scales(part, bits, zeros == "none")
        q[rows] = to_grid(w[rows], scale[rows], zero[rows], bits)
    return Blocks(q, scale, zero, bits, block, symmetric=zeros == "none")


def with_float_zeros(part: Float64, bits: int) -> tuple[Float32, Float32]:
    """Scale by rounding, zero point by half-quadratic steps, of blocks [rows, blocks, block]."""
    low = np.min(part, axis=-1)
    scale = usable((np.max(part, axis=-1) - low) / (2**bits - 1))
    steps, zero = part / scale[..., None], -low / scale
    best, least, beta = zero, np.full(zero.shape, np.inf), BETA
    for _ in range(STEPS):
        q = np.clip(np.rint(steps + zero[..., None]), 0, 2**bits - 1)
        error = steps - (q - zero[..., None])
        best, least = _better(zero, error, best, least)
        zero = np.mean(q - (steps - _shrink(error, beta)), axis=-1)
        beta *= KAPPA
    return scale, best.astype(np.float32)


def with_scales(part: Float64, bits: int, symmetric: bool) -> tuple[Float32, UInt8]:
    """Zero point by rounding, scale by half-quadratic steps, of blocks [rows, blocks, block]."""
    first, zero = grid(part, bits, symmetric)
    steps, offset = part / first[..., None], zero.astype(np.float64)[..., None]
    factor = np.ones(first.shape)  # of the first scale: all is in its steps
    best, least, beta = factor, np.full(factor.shape, np.inf), BETA
    for _ in range(STEPS):
        level = np.clip(np.rint(steps / factor[..., None] + offset), 0, 2**bits - 1) - offset
        error = steps - factor[..., None] * level
        best, least = _better(factor, error, best, least)
        size = np.sum(level * level, axis=-1)
        fitted = np.sum((steps - _shrink(error, beta)) * level, axis=-1) / np.maximum(size, 1)
        factor = np.where(fitted > 0, fitted, factor)  # a block whose levels are all 0 has nothing to fit
        beta *= KAPPA
    return usable(best * first), zero


def _better(new: Float64, error: Float64, best: Float64, least: Float64) -> tuple[Float64, Float64]:
    """The best value so far of each block, and its mean |error|^p."""
    cost = np.mean(np.abs(error) ** NORM, axis=-1)
    won = cost < least
    return np.where(won, new, best), np.where(won, cost, least)


def _shrink(x: Float64, beta: float) -> Float64:
    size = np.abs(x)
    # |x|^(p-1) has no value at 0, where the result is 0 anyway
    return np.asarray(np.sign(x) * np.maximum(0.0, size - np.maximum(size, 1e-8) ** (NORM - 1) / beta))
