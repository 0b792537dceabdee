"""Embedding tables by rows: 8 bits with a scale per row, 4 bits with a scale per block of a row, or float32.

A row is what a token looks up, so every array has a first axis of rows, and reading some rows touches nothing of the
others: arrays may be mapped from a file. One scale per row is enough for 8 bits (`quant.int8`); 4 bits need blocks
(`quant.blocks`), and gain two decibels by zero points, for an eighth of a bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from quant.blocks import ROWS_AT_ONCE, Packed, dequantize_blocks, pack_blocks, quantize_blocks, unpack_blocks
from quant.int8 import Int8, dequantize_rows, quantize_rows
from quant.matrix import Float32, UInt8, finite_matrix

Ids = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class ByteRows:
    """A table of 8 bits.

    Attributes:
        values: int8 [rows, columns].
        scales: float32 [rows].
    """

    values: Int8
    scales: Float32

    @property
    def bytes(self) -> int:
        """Bytes of both."""
        return self.values.nbytes + self.scales.nbytes


@dataclass(frozen=True, eq=False)
class PlainRows:
    """A table as it is: values float32 [rows, columns]."""

    values: Float32

    @property
    def bytes(self) -> int:
        """Its bytes."""
        return self.values.nbytes


Table = ByteRows | Packed | PlainRows


def quantize_table(weight: npt.ArrayLike, bits: int = 8, block: int = 32, symmetric: bool = False) -> Table:
    """The rows of an embedding table.

    Args:
        weight: [rows, columns], finite.
        bits: 8, 4 in blocks, or 32 to change nothing.
        block: of 4 bits: 16, 32, 64 or 128 columns; must divide them.
        symmetric: of 4 bits: without zero points.

    Raises:
        ValueError: the weight is no finite matrix, the bits are others, or the block does not divide the columns.

    >>> quantize_table([[1.0, -0.5], [0.0, 0.0]]).values.tolist()
    [[127, -64], [0, 0]]
    """
    if bits == 4:
        return pack_blocks(quantize_blocks(weight, 4, block, symmetric))
    if bits not in {8, 32}:
        raise ValueError(f"expected a table of 4, 8 or 32 bits, found {bits}")
    w = finite_matrix(weight)
    if bits == 32:
        return PlainRows(w)
    out = ByteRows(np.empty(w.shape, np.int8), np.empty(len(w), np.float32))
    for start in range(0, len(w), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        out.values[rows], out.scales[rows] = quantize_rows(w[rows])
    return out


def look_up(table: Table, ids: npt.ArrayLike) -> Float32:
    """Rows by number.

    Args:
        table: its arrays may be mapped.
        ids: integers of any shape.

    Returns:
        float32 [*ids.shape, columns].

    Raises:
        ValueError: ids are no integers, or one is not the number of a row.

    >>> look_up(quantize_table([[254.0, 0.0], [0.0, -127.0]]), [[1], [0]]).tolist()
    [[[0.0, -127.0]], [[254.0, 0.0]]]
    """
    asked = np.asarray(ids)
    if not np.issubdtype(asked.dtype, np.integer):
        raise ValueError(f"expected rows by whole numbers, found {asked.dtype}")
    flat, count = asked.reshape(-1), len(table.values)
    # numpy would count negative ones from the end
    wrong = flat[(flat < 0) | (flat >= count)]
    if len(wrong):
        raise ValueError(f"expected rows 0 to {count - 1} of the table, found {int(wrong[0])}")
    rows = _rows(table, flat)
    return rows.reshape(*asked.shape, rows.shape[-1])


def _rows(table: Table, ids: Ids) -> Float32:
    if isinstance(table, PlainRows):
        return np.asarray(table.values[ids], np.float32)
    if isinstance(table, ByteRows):
        return dequantize_rows(np.asarray(table.values[ids]), np.asarray(table.scales[ids]))
    zeros = None if table.zero_points is None else cast("UInt8 | Float32", np.asarray(table.zero_points[ids]))
    chosen = Packed(np.asarray(table.values[ids], np.uint8), np.asarray(table.scales[ids]), zeros, table.bits)
    return dequantize_blocks(unpack_blocks(chosen))
