"""What a node computes and moves, by its shapes: operations of its arithmetic, bytes of the activations it touches.

A multiply-add is two operations, as in `torch.utils.flop_counter`. What is not a product counts one operation per
element that it writes, or reads where it reduces: its bytes are what its time is made of anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import onnx_ir as ir

from export.gradient.dims import Dims, dims_of, unknown_dims
from export.kernels import ALIASES
from export.values import COST_RANK, bodies, constant_nodes, is_weight, reads, value_bytes

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# they write where they were told to, or look up: nothing is computed
COPIES = ALIASES | {
    "Transpose",
    "Concat",
    "Split",
    "Slice",
    "Gather",
    "Expand",
    "Pad",
    "Tile",
    "Cast",
    "Where",
    "Shape",
}


def graph_flops(graph: ir.Graph) -> int:
    """Operations of one run of a graph, what weights alone decide left out."""
    free = constant_nodes(graph)
    return sum(node_flops(node) for node in graph if node not in free)


def node_flops(node: ir.Node) -> int:
    """Operations of one run of a node; 0 where a shape is not known, as inside a loop."""
    inner = [graph_flops(body) for body in bodies(node)]
    if inner:
        return max(inner) if node.op_type == "If" else sum(inner) * node_rounds(node)
    if node.op_type in COPIES or not _known(node):
        return 0
    product = PRODUCTS.get(node.op_type)
    if product is not None:
        return product(node)
    touched = [_size(value) for value in (*reads(node), *node.outputs) if not is_weight(value)]
    return max(touched, default=0)


def moved_bytes(nodes: Iterable[ir.Node]) -> int:
    """Bytes of activations that some nodes read and write in one run; weights and aliases are not among them."""
    total = 0
    for node in nodes:
        if node.domain == "" and node.op_type in ALIASES:
            continue
        values = {value for value in (*reads(node), *node.outputs) if value.name and not is_weight(value)}
        total += sum(value_bytes(value) for value in values if not _unknown(value))
    return total


def _matmul(node: ir.Node) -> int:
    return 2 * _size(node.outputs[0]) * _number(_dims(node, 0)[-1])


def _gemm(node: ir.Node) -> int:
    flipped = node.attributes.get_int("transA", 0)
    return 2 * _size(node.outputs[0]) * _number(_dims(node, 0)[0 if flipped else 1])


def _conv(node: ir.Node) -> int:
    # weight [out, in / group, *kernel]
    return 2 * _size(node.outputs[0]) * math.prod(map(_number, _dims(node, 1)[1:]))


def _conv_transpose(node: ir.Node) -> int:
    # weight [in, out / group, *kernel], used once per element that comes in
    return 2 * math.prod(map(_number, _dims(node, 0))) * math.prod(map(_number, _dims(node, 1)[1:]))


def _recurrent(node: ir.Node) -> int:
    # X [steps, batch, in], W [directions, gates x hidden, in], R [directions, gates x hidden, hidden]
    steps, batch, width = map(_number, _dims(node, 0))
    directions, rows, hidden = map(_number, _dims(node, 2))
    return 2 * steps * batch * directions * rows * (width + hidden)


def _einsum(node: ir.Node) -> int:
    terms = node.attributes.get_string("equation", "").replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, value in zip(terms, reads(node), strict=True):
        sizes.update(zip(reversed(term.replace("...", "")), map(_number, reversed(dims_of(value))), strict=False))
    leading = max(len(dims_of(v)) - len(t.replace("...", "")) for t, v in zip(terms, reads(node), strict=True))
    outer = math.prod(map(_number, dims_of(node.outputs[0])[:leading])) if leading > 0 else 1
    return 2 * outer * math.prod(sizes.values())


PRODUCTS: dict[str, Callable[[ir.Node], int]] = {
    "MatMul": _matmul,
    "FusedMatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    **dict.fromkeys(GATES, _recurrent),
}


def node_rounds(node: ir.Node) -> int:
    """How often the body of a Loop or Scan runs; 1 where nobody knows."""
    if node.op_type == "Loop":
        count = node.inputs[0]
        known = None if count is None or count.const_value is None else count.const_value.numpy()
        return int(known.item()) if known is not None and known.size == 1 else 1
    if node.op_type == "Scan" and node.inputs and node.inputs[-1] is not None and not _unknown(node.inputs[-1]):
        return _number(dims_of(node.inputs[-1])[0])
    return 1


def _known(node: ir.Node) -> bool:
    return not any(_unknown(value) for value in (*reads(node), *node.outputs) if value.name)


def _unknown(value: ir.Value) -> bool:
    """Whether it cannot be counted: sequences and optionals, and shapes that depend on data."""
    return bool(unknown_dims(value)) or (value.dtype is None and value.const_value is None)


def _dims(node: ir.Node, position: int) -> Dims:
    value = node.inputs[position]
    return () if value is None else dims_of(value)


def _size(value: ir.Value) -> int:
    return math.prod(map(_number, dims_of(value))) if value.name else 0


def _number(dim: int | str) -> int:
    return COST_RANK if isinstance(dim, str) else dim
