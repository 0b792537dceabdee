"""Weights as their bytes say, in float64: read from a graph's initializers in numpy, some rows at a time.

This is what a runtime's kernels are held against, so nothing of a runtime is in it.

    MatMulNBits, GatherBlockQuantized    s (q - z) per block of a row                      quant.blocks
    MatMulBnb4                           table[code] s per block of the flat weight        quant.codes

What nodes restore before they are read by others is in `export.oracle.restored`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.gradient.present import present
from export.oracle.numbers import constant, decided, numbers, restoring
from quant.blocks import Packed, unpack_blocks
from quant.codes import QUANT_TYPES, TABLES, Kind
from quant.pack import unpack

Array = NDArray[Any]
Float64 = NDArray[np.float64]
Rows = NDArray[np.int64]

KINDS = {number: kind for kind, number in QUANT_TYPES.items()}
INTEGERS = frozenset(
    {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT16, ir.DataType.UINT16}
)
HALVES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


@dataclass(frozen=True)
class Stored:
    """A weight that can be read row by row.

    Attributes:
        name: of the initializer that holds its numbers.
        format: in words.
        shape: of the weight.
        rows: the rows with some indices along axis 0, float64 [indices, *shape[1:]].
        nodes: what restores it, where it is not the node that reads it.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    rows: Callable[[Rows], Float64]
    nodes: tuple[ir.Node, ...] = ()

    def whole(self) -> Float64:
        """All of it."""
        return self.rows(np.arange(self.shape[0])) if self.shape else self.rows(np.zeros(1, np.int64)).reshape(())


def optional(node: ir.Node, position: int) -> ir.Value | None:
    """An input that may be left out."""
    return node.inputs[position] if position < len(node.inputs) else None


def number(node: ir.Node, name: str, default: int = 0) -> int:
    """An attribute."""
    return node.attributes.get_int(name, default)


def nbits(node: ir.Node) -> Stored | None:
    """The weight [N, K] of MatMulNBits; None where it is not stored in the graph, or its columns are reordered."""
    parts = [constant(optional(node, position)) for position in (1, 2, 3)]
    missing = optional(node, 3) is not None and parts[2] is None
    if parts[0] is None or parts[1] is None or missing or optional(node, 4) is not None:
        return None
    n, k, bits, block = (number(node, name) for name in ("N", "K", "bits", "block_size"))
    bits = bits or 4
    count = -(-k // block)
    values = parts[0].numpy().reshape(n, count, block * bits // 8)
    scales = parts[1].numpy().astype(np.float32).reshape(n, count)
    zeros = None if parts[2] is None else parts[2].numpy().reshape(n, -1)

    def rows(index: Rows) -> Float64:
        part = unpack_blocks(Packed(values[index], scales[index], None if zeros is None else zeros[index], bits))
        steps = part.q.reshape(len(index), count, block).astype(np.float64) - part.zero[:, :, None].astype(np.float64)
        return np.asarray((steps * part.scale[:, :, None]).reshape(len(index), -1)[:, :k])

    kind = "no zero points" if zeros is None else f"{zeros.dtype} zero points"
    level = number(node, "accuracy_level")
    name = f"{bits} bits in blocks of {block}, {kind}, accuracy level {level}"
    return Stored(str(present(node.inputs[1]).name), name, (n, k), rows)


def bnb4(node: ir.Node) -> Stored | None:
    """The weight [N, K] of MatMulBnb4; its scales may be restored by other nodes."""
    codes, given = constant(node.inputs[1]), present(node.inputs[2])
    if codes is None or not decided(given) or not number(node, "transB", 1):
        return None
    n, k, block = (number(node, name) for name in ("N", "K", "block_size"))
    kind, scales = KINDS[number(node, "quant_type")], numbers(given).reshape(-1)
    nested = "" if constant(given) is not None else ", scales in 8 bits"
    name = f"{kind} in blocks of {block}{nested}"
    rows = coded(codes.numpy().reshape(-1), scales, (n, k), kind, block)
    return Stored(str(present(node.inputs[1]).name), name, (n, k), rows, tuple(restoring(given)))


def coded(codes: Array, scales: Array, shape: tuple[int, int], kind: Kind, block: int) -> Callable[[Rows], Float64]:
    """Rows of a matrix in codes, two to a byte; blocks run on from row to row."""
    k, size = shape[1], shape[0] * shape[1]

    def rows(index: Rows) -> Float64:
        first, last = int(index.min()), int(index.max()) + 1
        # what is read begins where a block does
        begin, end = first * k // block, min(-(-last * k // block), len(scales))
        entries = min(end * block, size) - begin * block
        part = codes[begin * block // 2 : (begin * block + entries + 1) // 2]
        both = TABLES[kind].astype(np.float64)[np.stack([part >> 4, part & 15], axis=1)]
        flat = both.reshape(-1)[:entries] * np.repeat(scales[begin:end], block)[:entries]
        own = flat[first * k - begin * block : last * k - begin * block]
        return np.asarray(own.reshape(last - first, k)[index - first])

    return rows


def table(node: ir.Node) -> Stored | None:
    """The table of GatherBlockQuantized, if rows are gathered and blocks lie along the last axis."""
    data, s = constant(node.inputs[0]), constant(optional(node, 2))
    z = constant(optional(node, 3))
    missing = optional(node, 3) is not None and z is None
    if data is None or s is None or missing or len(data.shape) != 2 or number(node, "gather_axis"):
        return None
    if number(node, "quantize_axis", 1) % 2 != 1:
        return None
    bits, block = number(node, "bits", 4), number(node, "block_size", 128)
    held, scales = data.numpy(), s.numpy()
    packed = data.dtype == ir.DataType.UINT8 and bits == 4
    columns = held.shape[1] * (2 if packed else 1)
    # of bytes the middle of the range is meant where there are no zero points, of typed 4-bit numbers 0
    default = 2 ** (bits - 1) if data.dtype == ir.DataType.UINT8 else 0

    def rows(index: Rows) -> Float64:
        q = unpack(held[index], 4, columns) if packed else held[index]
        zeros: Any = np.full((len(index), scales.shape[1]), default)
        if z is not None:
            stored = z.numpy()[index]
            zeros = unpack(stored, 4, scales.shape[1]) if packed else stored
        wide = [np.repeat(part.astype(np.float64), block, 1)[:, :columns] for part in (zeros, scales[index])]
        return np.asarray((q.astype(np.float64) - wide[0]) * wide[1])

    name = f"{data.dtype.name.lower()} rows of {bits} bits in blocks of {block}"
    return Stored(str(present(node.inputs[0]).name), name, (held.shape[0], columns), rows)
