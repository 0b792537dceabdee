"""4- and 8-bit integers with a scale, and perhaps a zero point, per block of a row.

    q = clip(round(w / s) + z, 0, 2^b - 1),    w' = s (q - z)

Symmetric: z = 2^(b-1) and s = -p / 2^(b-1), where p is the weight of largest magnitude in the block with its
sign: p is then restored exactly and all 2^b levels are used, at the price of negative scales (llama.cpp's Q4_0;
onnxruntime's own quantizer does the same). Otherwise s = (max - min) / (2^b - 1) and z = round(-min / s) over the
block and 0 (Krishnamoorthi 2018, arXiv:1806.08342, section 2.1). 0 is restored exactly in both.

A weight is [out, in] and blocks lie along `in`. Packed it is what two operators of a runtime read:

    MatMulNBits        values [out, in/block, block b/8], scales [out, in/block], zero points packed per row
    DequantizeLinear   uint4 or uint8 [out, in] with axis 1 and block_size: the same bytes; zero points packed as
                       one flat tensor, which differ from the above where in/block is odd
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from quant.matrix import Float32, UInt8, finite_matrix
from quant.pack import BITS, pack, unpack

# 16 to 128: what every version of the runtime multiplies by; blocks of 512 gave zeros in one of them
SIZES = (16, 32, 64, 128)
ROWS_AT_ONCE = 1024

Float64 = npt.NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Blocks:
    """A quantized weight.

    Attributes:
        q: uint8 [rows, columns], below 2^bits.
        scale: float32 [rows, columns / block].
        zero: [rows, columns / block], uint8, or float32 where zero points are not whole (only 4 bits).
        bits: 4 or 8.
        block: columns that share a scale.
        symmetric: every zero point is 2^(bits-1), so that MatMulNBits needs none.
    """

    q: UInt8
    scale: Float32
    zero: UInt8 | Float32
    bits: int
    block: int
    symmetric: bool


@dataclass(frozen=True, eq=False)
class Packed:
    """What MatMulNBits reads; `zero_points` None means 2^(bits-1).

    Attributes:
        values: uint8 [rows, columns / block, block * bits / 8].
        scales: float32 [rows, columns / block].
        zero_points: uint8 [rows, ceil(columns / block * bits / 8)], float32 [rows, columns / block], or None.
        bits: 4 or 8.
    """

    values: UInt8
    scales: Float32
    zero_points: UInt8 | Float32 | None
    bits: int

    @property
    def bytes(self) -> int:
        """Bytes of all three."""
        zeros = 0 if self.zero_points is None else self.zero_points.nbytes
        return self.values.nbytes + self.scales.nbytes + zeros


def quantize_blocks(weight: npt.ArrayLike, bits: int = 4, block: int = 32, symmetric: bool = True) -> Blocks:
    """Scales by rounding: the smallest that reach the ends of each block.

    Args:
        weight: [rows, columns], finite.
        bits: 4 or 8.
        block: 16, 32, 64 or 128 columns; must divide them.
        symmetric: without zero points.

    Raises:
        ValueError: the weight is no finite matrix, or the block does not divide its columns.

    >>> two = quantize_blocks([[0.0] * 15 + [8.0], [2.0] * 16], bits=4, block=16)
    >>> two.scale.tolist(), two.q[0, 14:].tolist()
    ([[-1.0], [-0.25]], [8, 0])
    """
    w = checked(weight, bits, block)
    shape = (w.shape[0], w.shape[1] // block)
    scale, zero = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    q = np.empty(w.shape, np.uint8)
    # in rows: a large table would need four times its size in between
    for start in range(0, len(w), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        scale[rows], zero[rows] = grid(in_blocks(w[rows], block), bits, symmetric)
        q[rows] = to_grid(w[rows], scale[rows], zero[rows], bits)
    return Blocks(q, scale, zero, bits, block, symmetric)


def dequantize_blocks(blocks: Blocks) -> Float32:
    """The weight that integers, scales and zero points stand for, float32 [rows, columns].

    >>> dequantize_blocks(quantize_blocks([[0.0] * 15 + [-8.0]], block=16))[0, 14:].tolist()
    [0.0, -8.0]
    """
    out = np.empty(blocks.q.shape, np.float32)
    for start in range(0, len(out), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        steps = in_blocks(blocks.q[rows].astype(np.float32), blocks.block) - blocks.zero[rows, :, None].astype(
            np.float32
        )
        out[rows] = (steps * blocks.scale[rows, :, None]).reshape(out[rows].shape)
    return out


def pack_blocks(blocks: Blocks) -> Packed:
    """In the layout of MatMulNBits."""
    values = pack(in_blocks(blocks.q, blocks.block), blocks.bits)
    zeros: UInt8 | Float32 | None = None
    if not blocks.symmetric:
        whole = blocks.zero.dtype == np.uint8
        zeros = pack(blocks.zero.astype(np.uint8), blocks.bits) if whole else blocks.zero
    return Packed(values, blocks.scale, zeros, blocks.bits)


def unpack_blocks(packed: Packed) -> Blocks:
    """Back from the layout of MatMulNBits."""
    rows, count, width = packed.values.shape
    block = width * 8 // packed.bits
    zero: UInt8 | Float32
    if packed.zero_points is None:
        zero = np.full((rows, count), 2 ** (packed.bits - 1), np.uint8)
    elif packed.zero_points.dtype == np.uint8:
        zero = unpack(packed.zero_points.astype(np.uint8), packed.bits, count)
    else:
        zero = packed.zero_points
    q = unpack(packed.values, packed.bits, block).reshape(rows, count * block)
    return Blocks(q, packed.scales, zero, packed.bits, block, packed.zero_points is None)


def linear_zero_points(blocks: Blocks) -> UInt8:
    """The zero points of DequantizeLinear, explicit even where symmetric: flat bytes of a tensor shaped as `scale`.

    Its values are the bytes of `pack_blocks(...).values` as they are, of a tensor [rows, columns].

    Raises:
        ValueError: zero points are not whole.
    """
    if blocks.zero.dtype != np.uint8:
        raise ValueError("expected whole zero points, found float ones, which DequantizeLinear cannot take")
    return pack(blocks.zero.astype(np.uint8).reshape(-1), blocks.bits)


def checked(weight: npt.ArrayLike, bits: int, block: int) -> Float32:
    """The weight, if it can be cut into such blocks; raises ValueError as `quantize_blocks` does."""
    if bits not in BITS:
        raise ValueError(f"expected 4 or 8 bits, found {bits}")
    if block not in SIZES:
        raise ValueError(f"expected a block of {', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]}, found {block}")
    w = finite_matrix(weight)
    if w.shape[1] % block or not w.size:
        raise ValueError(
            f"expected a weight whose columns are a multiple of the block of {block}, found shape {w.shape}; "
            "choose a smaller block or another format"
        )
    return w


def in_blocks(rows: npt.NDArray[Number], block: int) -> npt.NDArray[Number]:
    """[rows, columns] as [rows, columns / block, block], without a copy."""
    return rows.reshape(len(rows), -1, block)


def grid(w: npt.NDArray[np.floating], bits: int, symmetric: bool) -> tuple[Float32, UInt8]:
    """Scale and zero point of each block of w [rows, blocks, block]."""
    low, high = np.min(w, axis=-1), np.max(w, axis=-1)
    middle, last = 2 ** (bits - 1), 2**bits - 1
    if symmetric:
        scale = usable(np.where(high > -low, high, low) / -middle)
        return scale, np.full(scale.shape, middle, np.uint8)
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = usable((high.astype(np.float64) - low) / last)
    return scale, np.clip(np.rint(-low / scale), 0, last).astype(np.uint8)


def usable(scale: npt.NDArray[np.floating]) -> Float32:
    """Scales as float32; 1 for blocks of zeros, and for those below the normal numbers, whose quotients lose digits."""
    rounded = scale.astype(np.float32)
    return np.where(np.abs(rounded) < np.finfo(np.float32).tiny, np.float32(1), rounded)


def to_grid(w: npt.NDArray[np.floating], scale: Float32, zero: UInt8 | Float32, bits: int) -> UInt8:
    """The nearest integers to weights [rows, columns] on a grid [rows, columns / block]."""
    blocks = w.reshape(*scale.shape, -1)
    steps = np.rint(blocks / scale[..., None] + zero.astype(np.float32)[..., None])
    return np.asarray(np.clip(steps, 0, 2**bits - 1).reshape(w.shape), np.uint8)
