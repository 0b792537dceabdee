"""Weights as their bytes say, in float64: read from a graph's initializers in numpy, some rows at a time.

This is what a runtime's kernels are held against, so nothing of a runtime is in it.

    MatMulNBits, GatherBlockQuantized    s (q - z) per block of a row                      quant.blocks
    MatMulBnb4                           table[code] s per block of the flat weight        quant.codes
    DequantizeLinear                     s (q - z) per tensor, per index of an axis, or per block along an axis
    Cast                                 the stored number
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.gradient.present import present
from quant.blocks import Packed, unpack_blocks
from quant.codes import QUANT_TYPES, Codes, dequantize_codes
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
    """

    name: str
    format: str
    shape: tuple[int, ...]
    rows: Callable[[Rows], Float64]

    def whole(self) -> Float64:
        """All of it."""
        return self.rows(np.arange(self.shape[0])) if self.shape else self.rows(np.zeros(1, np.int64)).reshape(())


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer that nobody can feed."""
    return None if value is None or value.is_graph_input() else value.const_value


def optional(node: ir.Node, position: int) -> ir.Value | None:
    """An input that may be left out."""
    return node.inputs[position] if position < len(node.inputs) else None


def number(node: ir.Node, name: str, default: int = 0) -> int:
    """An attribute."""
    return node.attributes.get_int(name, default)


def restored(value: ir.Value | None) -> Stored | None:
    """What DequantizeLinear or Cast makes of stored numbers; None for any other value."""
    node = None if value is None else value.producer()
    if node is None or node.domain or constant(node.inputs[0]) is None:
        return None
    if node.op_type == "DequantizeLinear" and all(constant(v) is not None for v in node.inputs if v is not None):
        return _linear(node)
    if node.op_type == "Cast" and present(constant(node.inputs[0])).dtype in HALVES:
        return plain(present(node.inputs[0]))
    return None


def plain(value: ir.Value) -> Stored:
    """An initializer as it is."""
    tensor = present(constant(value))
    array = tensor.numpy()
    return Stored(str(value.name), tensor.dtype.name.lower(), array.shape, lambda at: array[at].astype(np.float64))


def _linear(node: ir.Node) -> Stored:
    """DequantizeLinear, opset 21: s and z are of one number, of an axis, or shaped as q but for the blocked axis."""
    q, s, z = (constant(optional(node, position)) for position in range(3))
    integers, scales = present(q).numpy(), present(s).numpy()
    zeros = None if z is None else z.numpy()
    axis, block = number(node, "axis", 1) % max(integers.ndim, 1), number(node, "block_size")

    def at(part: Array, rows: Rows) -> Float64:
        if part.size == 1 and not block:
            return part.astype(np.float64).reshape(())
        if not block:
            wide = part.reshape([-1 if i == axis else 1 for i in range(integers.ndim)])
            return (wide[rows] if axis == 0 else wide).astype(np.float64)
        picked = part[rows // block] if axis == 0 else part[rows]
        wide = picked if axis == 0 else np.repeat(picked, block, axis)
        return wide.astype(np.float64)[tuple(slice(n) for n in (len(rows), *integers.shape[1:]))]

    def rows(index: Rows) -> Float64:
        steps = integers[index].astype(np.float64)
        return np.asarray((steps - (0.0 if zeros is None else at(zeros, index))) * at(scales, index))

    how = f"blocks of {block}" if block else "per tensor" if scales.size == 1 else "per channel"
    name = f"{present(q).dtype.name.lower()} {how}"
    return Stored(str(present(node.inputs[0]).name), name, integers.shape, rows)


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
    """The weight [N, K] of MatMulBnb4."""
    codes, scales = (constant(optional(node, position)) for position in (1, 2))
    if codes is None or scales is None:
        return None
    n, k, block = (number(node, name) for name in ("N", "K", "block_size"))
    kind = KINDS[number(node, "quant_type")]
    stored, steps = codes.numpy().reshape(-1), scales.numpy().reshape(-1).astype(np.float32)

    def rows(index: Rows) -> Float64:
        first, last = int(index.min()), int(index.max()) + 1
        # blocks run on from row to row: what is read begins where a block does
        begin = first * k // block
        end = min(-(-last * k // block), len(steps))
        entries = min(end * block, n * k) - begin * block
        part = stored[begin * block // 2 : (begin * block + entries + 1) // 2]
        flat = dequantize_codes(Codes(part, steps[begin:end], (1, entries), kind, block))[0]
        own = flat[first * k - begin * block : last * k - begin * block]
        return np.asarray(own.reshape(last - first, k)[index - first], np.float64)

    return Stored(str(present(node.inputs[1]).name), f"{kind} in blocks of {block}", (n, k), rows)


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
