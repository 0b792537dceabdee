"""Weights that nodes restore before others read them, in float64 from what is stored.

DequantizeLinear      s (q - z) per tensor, per index of an axis, or per block along an axis
Cast                  the stored half
Gather, Mul, Reshape  the two numbers of a byte of NF4 or FP4 codes, times the scale of their block
Reshape               any of these in another shape
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.gradient.present import present
from export.oracle.numbers import constant, decided, numbers, restoring
from export.oracle.stored import HALVES, Float64, Rows, Stored, coded, number, optional
from quant.codes import TABLES, Kind

Array = NDArray[Any]


def restored(value: ir.Value) -> Stored | None:
    """What nodes make of a stored weight; None for any other value."""
    node = value.producer()
    if node is None or node.domain or not is_float(value):
        return None
    found = None
    if node.op_type == "Reshape":
        found = _codes(node) or _reshaped(node)
    elif node.op_type == "DequantizeLinear" and all(constant(v) is not None for v in node.inputs if v is not None):
        found = _linear(node)
    elif node.op_type == "Cast" and (tensor := constant(node.inputs[0])) is not None and tensor.dtype in HALVES:
        found = plain(present(node.inputs[0]))
    return None if found is None else replace(found, nodes=tuple(dict.fromkeys(restoring(value))))


def is_float(value: ir.Value) -> bool:
    """Whether a value is float32, as far as the graph says: coarser arithmetic has bars of its own."""
    return value.dtype in {None, ir.DataType.FLOAT}


def plain(value: ir.Value) -> Stored:
    """An initializer as it is."""
    tensor = present(constant(value))
    array = tensor.numpy()
    return Stored(str(value.name), tensor.dtype.name.lower(), array.shape, lambda at: array[at].astype(np.float64))


def _reshaped(node: ir.Node) -> Stored | None:
    """Another shape of a restored weight, whose rows are whole rows of it."""
    held, sizes = restored(present(node.inputs[0])), constant(node.inputs[1])
    if held is None or sizes is None:
        return None
    shape = tuple(int(n) for n in sizes.numpy())
    if min(shape, default=0) < 1 or held.shape[0] % shape[0]:
        return None
    each = held.shape[0] // shape[0]

    def rows(index: Rows) -> Float64:
        inner = (index[:, None] * each + np.arange(each)).reshape(-1)
        return held.rows(inner).reshape(len(index), *shape[1:])

    return replace(held, shape=shape, rows=rows)


def _codes(node: ir.Node) -> Stored | None:
    """NF4 or FP4 by nodes: Reshape(Mul(Reshape(Gather(the two numbers of every byte, codes)), column of scales))."""
    chain = [node]
    for op_type in ("Mul", "Reshape", "Gather", "Cast"):
        maker = present(chain[-1].inputs[1 if op_type == "Cast" else 0]).producer()
        if maker is None or maker.op_type != op_type:
            return None
        chain.append(maker)
    codes, pairs, sizes = constant(chain[4].inputs[0]), constant(chain[3].inputs[0]), constant(node.inputs[1])
    scales = present(chain[1].inputs[1])
    kind = None if pairs is None else _kind(pairs.numpy())
    if codes is None or sizes is None or kind is None or not decided(scales):
        return None
    steps, (rows, columns) = numbers(scales).reshape(-1), (int(n) for n in sizes.numpy())
    block = rows * columns // steps.size
    read = coded(codes.numpy().reshape(-1), steps, (rows, columns), kind, block)
    return Stored(str(present(chain[4].inputs[0]).name), f"{kind} in blocks of {block}", (rows, columns), read)


def _kind(pairs: Array) -> Kind | None:
    """The format whose bytes mean these numbers, [256, 2]."""
    byte = np.arange(256)
    for kind, table in TABLES.items():
        if np.array_equal(pairs, np.stack([table[byte >> 4], table[byte & 15]], axis=1)):
            return kind
    return None


def _linear(node: ir.Node) -> Stored | None:
    """DequantizeLinear, opset 21: s and z are of one number, of an axis, or shaped as q but for the blocked axis."""
    q, s, z = (constant(optional(node, position)) for position in range(3))
    integers, scales = present(q).numpy(), present(s).numpy()
    if not integers.ndim:
        return None
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
