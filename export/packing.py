"""What a session packs when it is made, if its options allow it: weights as kernels like to read them.

Read from the kernels' PrePack and from onnxruntime/core/mlas, and held against processes on onnxruntime 1.31.1 for
x86-64 (tests/export/test_packing.py). One weight is packed after the other, into memory that no arena has a part in;
each is given back as soon as nothing reads it as it was. So a session never holds all of both, but the last weight and
what was packed: that may be more than what it holds afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from export.gradient.dims import dims_of
from export.gradient.present import present
from export.values import COST_RANK

UNPACKED = "session.disable_prepacking"  # key of a session's configuration; "1" where nothing is packed
PANEL_COLUMNS = 16  # a packed float weight is a whole number of panels
SUM_COLUMNS = 16  # sums of blocks are kept for a whole number of so many output channels
ALIGNMENT_BYTES = 64
DEQUANTIZED_COLUMNS = 32  # restored at a time, for products of several rows
MICROSOFT = "com.microsoft"
INTEGER_ROWS = 4  # a packed integer weight is a whole number of so many rows, and has a sum per column
INTEGERS = {("", "MatMulInteger"): 1, (MICROSOFT, "MatMulIntegerToFloat"): 1, ("", "QLinearConv"): 3}
PLACES = {
    **INTEGERS,
    ("", "MatMul"): 1,
    ("", "Gemm"): 1,
    (MICROSOFT, "FusedMatMul"): 1,
    ("", "LSTM"): 2,
    ("", "GRU"): 2,
}


@dataclass(frozen=True)
class Packing:
    """What packing of all weights of a graph takes, in bytes.

    Attributes:
        packed: all packed copies.
        replaced: the weights that they were made of and that nothing else reads.
        largest: the most that is held for one of them meanwhile: itself, and sums of its blocks in their first order.
        read: what else is read for it: scales and zero points.
    """

    packed: int = 0
    replaced: int = 0
    largest: int = 0
    read: int = 0

    @property
    def extra(self) -> int:
        """What a session holds in addition once it is made; below 0 where packing saves."""
        return self.packed - self.replaced

    @property
    def while_loading(self) -> int:
        """What is held at most while weights are packed."""
        return self.packed + self.largest + self.read


def packing(graph: ir.Graph) -> Packing:
    """What a session packs of a graph if it may."""
    packed = read = largest = 0
    left: dict[ir.Value, int] = {}
    for node in graph:
        weight = packable(node)
        if weight is not None:
            packed += _packed_bytes(node, weight)
            left[weight] = left.get(weight, len(weight.uses())) - 1
            largest = max(largest, _bytes(weight) + (_block_bytes(node) if _rounds(node) else 0))
            read += sum(_bytes(value) for value in node.inputs[2:4]) if _rounds(node) else 0
    replaced = [_bytes(value) for value, uses in left.items() if uses == 0 and not value.is_graph_output()]
    return Packing(packed, sum(replaced), largest, read)


def packable(node: ir.Node) -> ir.Value | None:
    """The weight of a node that its kernel packs."""
    if is_nbits(node):
        weight = node.inputs[1] if packs_bits(node) else None
    else:
        place = PLACES.get((node.domain, node.op_type))
        weight = None if place is None else node.inputs[place]
    if weight is None or weight.const_value is None or weight.is_graph_input():
        return None
    return weight


def is_nbits(node: ir.Node) -> bool:
    """Whether a node multiplies by blocks of few bits."""
    return (node.domain, node.op_type) == (MICROSOFT, "MatMulNBits")


def is_integer(node: ir.Node) -> bool:
    """Whether a node multiplies rounded activations by integers."""
    return (node.domain, node.op_type) in INTEGERS


def packs_bits(node: ir.Node) -> bool:
    """Whether MatMulNBits has a kernel for packed weights: not for float zero points, nor for 8 bits in float."""
    zeros = node.inputs[3] if len(node.inputs) > 3 else None
    floats = zeros is not None and zeros.dtype is not None and zeros.dtype.is_floating_point()
    return not floats and (_number(node, "bits", 4) == 4 or _rounds(node))


def packed_scratch(node: ir.Node, rank: int = COST_RANK) -> list[int]:
    """What MatMulNBits takes while it runs on a packed weight, in bytes."""
    k, block = _number(node, "K", 0), _number(node, "block_size", 32)
    shape = [rank if isinstance(dim, str) else dim for dim in dims_of(present(node.inputs[0]))]
    rows, count = 1, -(-k // block)
    for dim in shape[:-1]:
        rows *= dim
    if _rounds(node):
        return [rows * count * (block + 4 + 4)]  # integers, and a step and a sum for each block
    return [4 * DEQUANTIZED_COLUMNS * count * block] if rows > 1 else []


def _packed_bytes(node: ir.Node, weight: ir.Value) -> int:
    tensor = present(weight.const_value)
    dims = tensor.shape.numpy()
    if is_nbits(node):
        n = _number(node, "N", 0)
        more = _block_bytes(node) + _block_bytes(node, n + -n % SUM_COLUMNS) + ALIGNMENT_BYTES
        return tensor.nbytes + (more if _rounds(node) else 0)
    if node.op_type == "QLinearConv":
        return _filter_bytes(tensor.nbytes, dims, _number(node, "group", 1))
    if is_integer(node):
        columns = dims[-1] + -dims[-1] % PANEL_COLUMNS
        return int(columns * (dims[-2] + -dims[-2] % INTEGER_ROWS + 4))
    turned = node.op_type in {"LSTM", "GRU"} or _number(node, "transB", 0) == 1
    columns, rows = (dims[-2], dims[-1]) if turned else (dims[-1], dims[-2])
    return int(tensor.nbytes + 4 * rows * (-columns % PANEL_COLUMNS))


def _filter_bytes(stored: int, dims: Sequence[int], groups: int) -> int:
    """A matrix per group, [channels of a pixel's window, outputs]; a filter per channel is only reordered."""
    outputs, window = dims[0] // groups, math.prod(dims[1:])
    if dims[1] == outputs == 1:
        return stored
    columns = outputs + -outputs % PANEL_COLUMNS
    return groups * columns * (window + -window % INTEGER_ROWS + 4)


def _block_bytes(node: ir.Node, columns: int | None = None) -> int:
    """A float for each block of a weight, or of one with more output channels."""
    count = -(-_number(node, "K", 0) // _number(node, "block_size", 32))
    return 4 * count * (_number(node, "N", 0) if columns is None else columns)


def _rounds(node: ir.Node) -> bool:
    """Whether activations are rounded to 8 bits."""
    return is_nbits(node) and _number(node, "accuracy_level", 0) == 4


def _bytes(value: ir.Value | None) -> int:
    return 0 if value is None or value.const_value is None else value.const_value.nbytes


def _number(node: ir.Node, name: str, default: int) -> int:
    return node.attributes.get_int(name, default)
