"""What a graph does at one run, as work that a board's latency table can be asked for (`wire.work`, docs/probe.md).

Where no table has an operator, the one that works most alike stands for it: what is bound by its bytes counts as Add.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import onnx_ir as ir

from export.flops import GATES, node_flops, node_rounds
from export.gradient.dims import dims_of, unknown_dims
from export.kernels import ALIASES
from export.values import COST_RANK, bodies, is_weight, reads
from wire.work import Work

NOTHING = Work("Add", "fp32", (1,))  # of a node that only says what its input is called or how it is shaped
ALIKE = {
    "Erf": "Gelu FastGelu QuickGelu BiasGelu Tanh Sigmoid Exp Log Sin Cos Pow Softplus Mish Silu Swish Elu Selu",
    "Softmax": "LogSoftmax SoftmaxCrossEntropyLoss",
    "LayerNormalization": "SimplifiedLayerNormalization SkipLayerNormalization RMSNormalization BatchNormalization "
    "InstanceNormalization GroupNormalization",
    "ReduceMean": "ArgMax ArgMin AveragePool MaxPool GlobalAveragePool GlobalMaxPool CumSum TopK LpNormalization",
    "Gather": "GatherElements GatherND GatherBlockQuantized ScatterElements ScatterND OneHot",
    "QuantizeLinear": "DynamicQuantizeLinear",
    "Transpose": "DepthToSpace SpaceToDepth",
    "Cast": "CastLike",
}
CLASS = {name: kind for kind, names in ALIKE.items() for name in (kind, *names.split())}
FORMAT = {"QuantizeLinear": "int8", "Cast": "fp16"}
INTEGERS = {"MatMulInteger": 1, "MatMulIntegerToFloat": 1, "DynamicQuantizeMatMul": 1, "QLinearMatMul": 3}
CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}


def works_of(graph: ir.Graph) -> tuple[Work, ...]:
    """All nodes of a graph as it is run, those that restore weights too; alike ones together."""
    return together(work for node in graph for work in node_works(node))


def together(works: Iterable[Work]) -> tuple[Work, ...]:
    """Alike ones counted."""
    counts: dict[tuple[str, str, tuple[int, ...], int], int] = {}
    for work in works:
        key = (work.operator, work.format, work.shape, work.batch)
        counts[key] = counts.get(key, 0) + work.count
    return tuple(Work(kind, fmt, shape, count, batch) for (kind, fmt, shape, batch), count in sorted(counts.items()))


def node_works(node: ir.Node) -> list[Work]:
    """A node; of one with bodies, their nodes as often as they are run."""
    inner = [[work for one in body for work in node_works(one)] for body in bodies(node)]
    if inner:
        most = max(inner, key=len) if node.op_type == "If" else [work for works in inner for work in works]
        times = 1 if node.op_type == "If" else node_rounds(node)
        return list(together(most * times)) if most else []
    values = [value for value in (*reads(node), *node.outputs) if value.name]
    if node.op_type in ALIASES or any(unknown_dims(value) for value in values):
        return [NOTHING]
    rule = RULES.get(node.op_type)
    return [rule(node)] if rule is not None else [_plain(node, values)]


def _plain(node: ir.Node, values: Iterable[ir.Value]) -> Work:
    """What is no product: its elements, those that it reads where they are more."""
    kind = CLASS.get(node.op_type, "ReduceMean" if node.op_type.startswith("Reduce") else "Add")
    if kind == "Transpose" and _keeps_rows(node):
        kind = "Gather"
    if kind == "Gather":
        return Work(kind, "fp32", (max(1, _size(node.outputs[0])),))
    sizes = [_size(value) for value in values if not is_weight(value)]
    return Work(kind, FORMAT.get(kind, "fp32"), (max(1, *sizes, 1),))


def _keeps_rows(node: ir.Node) -> bool:
    """Whether a transposition moves whole rows."""
    order = node.attributes.get_ints("perm", ())
    return bool(order) and order[-1] == len(order) - 1


def _restored(node: ir.Node) -> Work:
    blocks = node.attributes.get_int("block_size", 0)
    return Work("DequantizeLinear", "blocks" if blocks else "int8", (max(1, _size(node.outputs[0])),))


def _matmul(node: ir.Node) -> Work:
    turned = bool(node.attributes.get_int("transB", 0))
    return _product(node, "FusedMatMul" if turned else "MatMul", "fp32", 1)


def _integers(node: ir.Node) -> Work:
    return _product(node, "MatMulInteger", "int8", INTEGERS[node.op_type])


def _product(node: ir.Node, operator: str, fmt: str, second: int) -> Work:
    """Of matrices; of more than one pair where the second has more than two dimensions."""
    made, left, right = (_dims(v) for v in (node.outputs[0], node.inputs[0], node.inputs[second]))
    depth = left[-2] if node.attributes.get_int("transA", 0) and len(left) > 1 else left[-1]
    wide = made[-1] if len(right) > 1 and made else 1
    if len(right) > 2 and len(made) > 1:
        return Work(operator, fmt, (made[-2], depth, wide), batch=max(1, math.prod(made[:-2])))
    return Work(operator, fmt, (max(1, math.prod(made) // max(1, wide)), depth, wide))


def _blocks(node: ir.Node) -> Work:
    depth, wide = node.attributes.get_int("K", 1), node.attributes.get_int("N", 1)
    fmt = "nf4" if node.op_type == "MatMulBnb4" else f"int{node.attributes.get_int('bits', 4)}"
    return Work(node.op_type, fmt, (max(1, _size(node.outputs[0]) // wide), depth, wide))


def _convolution(node: ir.Node) -> Work:
    weight = _dims(node.inputs[CONVOLUTIONS[node.op_type]])
    groups, made = node.attributes.get_int("group", 1), _size(node.outputs[0])
    rows, read, fmt = max(1, made // weight[0]), math.prod(weight[1:]), "int8"
    if node.op_type in {"Conv", "FusedConv"}:
        fmt = "fp32"
        if groups == weight[0] and weight[1] == 1:
            return Work("DepthwiseConv", fmt, (rows, read, weight[0]))
    return Work("Conv", fmt, (rows, read, weight[0] // groups), batch=groups)


def _transposed_convolution(node: ir.Node) -> Work:
    taken, weight = _dims(node.inputs[0]), _dims(node.inputs[1])  # weight [in, out / group, *kernel]
    groups = node.attributes.get_int("group", 1)
    rows = max(1, math.prod(taken) // weight[0])
    return Work("Conv", "fp32", (rows, weight[0] // groups, math.prod(weight[1:])), batch=groups)


def _recurrent(node: ir.Node) -> Work:
    # X [steps, batch, in], R [directions, gates x hidden, hidden]
    steps, batch, width = _dims(node.inputs[0])
    directions, wide, hidden = _dims(node.inputs[2])
    return Work("MatMul", "fp32", (batch, width + hidden, wide), count=max(1, steps * directions))


def _einsum(node: ir.Node) -> Work:
    made = max(1, _size(node.outputs[0]))
    return Work("MatMul", "fp32", (made, max(1, node_flops(node) // (2 * made)), 1))


def _size(value: ir.Value | None) -> int:
    return math.prod(_dims(value))


def _dims(value: ir.Value | None) -> tuple[int, ...]:
    return () if value is None else tuple(COST_RANK if isinstance(dim, str) else int(dim) for dim in dims_of(value))


RULES: Mapping[str, Callable[[ir.Node], Work]] = {
    **dict.fromkeys(("MatMul", "FusedMatMul", "Gemm"), _matmul),
    **dict.fromkeys(INTEGERS, _integers),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _blocks),
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **dict.fromkeys(GATES, _recurrent),
    "ConvTranspose": _transposed_convolution,
    "DequantizeLinear": _restored,
    "Einsum": _einsum,
}
