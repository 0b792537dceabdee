"""Weight-only int8: matrices as [out, in] with a scale per output channel, embedding tables row by row.

    forward    x W         FusedMatMul(x, DequantizeLinear(q, s, z), transB=1)
    backward   g W^T       MatMul(g, DequantizeLinear(q, s, z))
    embedding  W[ids]      Cast(Gather(q, ids)) * Gather(s, ids)

q is stored by output channel because dequantizing along axis 1 of [in, out] is seven times slower. Every use
has its own DequantizeLinear, so that no float weight outlives the product that needs it, and an explicit
zero point. A plain MatMul over a DequantizeLinear with axis 1 would be taken by onnxruntime's optimizer for
an int8 product of rounded activations; FusedMatMul is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import UnsupportedModel, UsageError
from export.edit import Edit, replace
from export.gemm import split_gemm
from export.mapped import Turned, reading
from quant.int8 import dequantize_rows, quantize_rows
from quant.loss import BLOCK_ROWS, Error, error

FORMATS = ("fp32", "int8")
MICROSOFT = "com.microsoft"
# below this the scales and one more node cost more than the bytes are worth
SMALLEST = 1024

Role = Literal["product", "transposed product", "table"]


@dataclass(frozen=True)
class WeightReport:
    """What became of one weight: its format, its bytes, what was lost, or why nothing was done to it."""

    name: str
    format: str
    bytes_before: int
    bytes_after: int
    relative_error: float | None = None
    sqnr_db: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Rows:
    """A quantized weight: q int8 [rows, columns], s float32 [rows]. `source` keeps the cache's key alive."""

    source: ir.TensorProtocol
    q: ir.TensorProtocol
    s: ir.TensorProtocol
    lost: Error


# by the tensor that holds the numbers, whether its rows are the rows of q, and whether it is a table
Cache = dict[tuple[int, bool, bool], Rows]


def quantize_weights(model: ir.Model, fmt: str, cache: Cache | None = None) -> list[WeightReport]:
    """Rewrite the weights of a finished forward or backward graph, in place.

    Args:
        model: a frozen graph or a backward graph made from one: its weights are [in, out].
        fmt: "int8", or "fp32" to change nothing and only report.
        cache: pass one dictionary for all graphs of a model: each weight is then quantized once, and graphs
            share the very tensors.

    Returns:
        A report for every float weight of two dimensions or more, in the order of the graph's initializers.
        Vectors (biases, norms) always stay fp32 and are not listed.

    Raises:
        UsageError: an unknown format.
        UnsupportedModel: a weight holds NaN or infinity.
    """
    if fmt not in FORMATS:
        raise UsageError(f"expected one of the formats {', '.join(FORMATS)}, found {fmt!r}")
    cache = {} if cache is None else cache
    if fmt == "int8":
        split_gemm(model)
    reports = []
    for weight in list(model.graph.initializers.values()):
        if not _is_weight(weight):
            continue
        roles = [
            _role(use.node, use.idx)
            if use.node.graph is model.graph
            else f"input {use.idx} of {use.node.op_type} inside a body"
            for use in weight.uses()
        ]
        reason = "fp32 was asked for" if fmt == "fp32" else _why_not(weight, roles)
        if reason:
            size = weight.const_value.nbytes if weight.const_value is not None else 0
            reports.append(WeightReport(str(weight.name), "fp32", size, size, reason=reason))
        else:
            reports.append(_quantize(model.graph, weight, "table" in roles, cache))
    return reports


def _is_weight(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or value.is_graph_input() or not value.uses():
        return False
    return value.dtype == ir.DataType.FLOAT and len(tensor.shape) >= 2


def _role(node: ir.Node, index: int) -> Role | str:
    """How a node reads a weight; for readers that have no int8 form, their description."""
    if node.op_type == "Gather" and not node.domain and index == 0 and node.attributes.get_int("axis", 0) == 0:
        return "table"
    if node.op_type == "MatMul" and not node.domain and index == 1:
        return "product"
    batched = any(node.attributes.get_int(name, 0) for name in ("transBatchA", "transBatchB"))
    if node.op_type == "FusedMatMul" and node.domain == MICROSOFT and index == 1 and not batched:
        return "transposed product" if node.attributes.get_int("transB", 0) else "product"
    return f"input {index} of {node.op_type}"


def _why_not(weight: ir.Value, roles: list[Role | str]) -> str:
    """Why a weight has to stay fp32; empty when it need not."""
    tensor = weight.const_value
    if tensor is None or len(tensor.shape) != 2:
        return "not a matrix"
    if tensor.size < SMALLEST:
        return f"fewer than {SMALLEST} entries"
    others = sorted(set(roles) - {"product", "transposed product", "table"})
    if others:
        return f"read as {', '.join(others)}"
    if "table" in roles and "product" in roles:
        return "read both as a table and as a matrix [in, out]"
    return ""


def _quantize(graph: ir.Graph, weight: ir.Value, table: bool, cache: Cache) -> WeightReport:
    name, tensor = str(weight.name), weight.const_value
    if tensor is None:
        raise UnsupportedModel(f"expected the weight {name} to have values, found none; export it again")
    rows = _rows(name, tensor, table, cache)
    q, s = _add(graph, f"{name}.q", rows.q), _add(graph, f"{name}.s", rows.s)
    size = rows.q.nbytes + rows.s.nbytes
    products = [use for use in weight.uses() if _role(use.node, use.idx) != "table"]
    for use in [use for use in weight.uses() if use not in products]:
        _look_up(graph, use.node, q, s)
    if products:
        z = _add(graph, f"{name}.z", ir.tensor(np.zeros(rows.s.size, np.int8), name=f"{name}.z"))
        size += rows.s.size
        # of a tied table the rows are the output channels, and the scales of both are the same bytes
        flat = _add(graph, f"{name}.s.flat", _flat(rows.s, f"{name}.s.flat")) if table else s
        for use in products:
            _multiply(graph, use.node, (q, flat, z), turned=not table)
    graph.initializers.pop(name)
    return WeightReport(name, "int8", tensor.nbytes, size, rows.lost.relative, rows.lost.sqnr_db)


def _rows(name: str, tensor: ir.TensorProtocol, table: bool, cache: Cache) -> Rows:
    """The integers and scales: by row of a table, by column (output channel) of a matrix [in, out]."""
    source, by_rows = (tensor.source, not table) if isinstance(tensor, Turned) else (tensor, table)
    key = (id(source), by_rows, table)
    if key not in cache:
        with reading(source) as held:
            w = held if by_rows else held.T
            try:
                q, s = _in_blocks(w)
            except ValueError as problem:
                raise UnsupportedModel(f"cannot quantize the weight {name}: {problem}") from problem
            lost = error(w, dequantize_rows(q, s))
        # a table's scales are gathered as a column, which multiplies the rows without another node
        scales = s[:, None] if table else s
        cache[key] = Rows(source, ir.tensor(q, name=f"{name}.q"), ir.tensor(scales, name=f"{name}.s"), lost)
    return cache[key]


def _in_blocks(w: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """`quantize_rows` of a matrix that may lie in its file transposed; little of it is in memory at a time."""
    q, s = np.empty(w.shape, np.int8), np.empty(len(w), np.float32)
    for start in range(0, len(w), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        q[block], s[block] = quantize_rows(np.ascontiguousarray(w[block]))
    return q, s


def _add(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    value = ir.val(name, const_value=tensor)
    graph.register_initializer(value)
    return value


def _flat(scales: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
    return ir.tensor(scales.numpy().reshape(-1), name=name)


def _multiply(graph: ir.Graph, node: ir.Node, parts: tuple[ir.Value, ir.Value, ir.Value], *, turned: bool) -> None:
    """The product of one node, with its weight dequantized just before; `turned`: q is W transposed."""
    edit = Edit(graph, f"{node.name or node.outputs[0].name}/int8")
    weight = edit.op("DequantizeLinear", *parts, attributes={"axis": 0})
    weight.type, weight.shape = ir.TensorType(ir.DataType.FLOAT), parts[0].shape
    # stored transposed: what was W^T is now plain, and what was plain is now transposed
    trans_b = node.attributes.get_int("transB", 0)
    trans_b = 1 - trans_b if turned else trans_b
    trans_a, alpha = node.attributes.get_int("transA", 0), node.attributes.get_float("alpha", 1.0)
    x, y = node.inputs[0], node.outputs[0]
    if trans_a or trans_b or alpha != 1.0:
        flags = {"transA": trans_a, "transB": trans_b, "alpha": alpha}
        product = edit.op("FusedMatMul", x, weight, attributes=flags, domain=MICROSOFT, like=y)
    else:
        product = edit.op("MatMul", x, weight, like=y)
    replace(node, edit, product)


def _look_up(graph: ir.Graph, node: ir.Node, q: ir.Value, s: ir.Value) -> None:
    """Rows of a table: gather integers and scales, then multiply; never the whole table in float."""
    edit = Edit(graph, f"{node.name or node.outputs[0].name}/int8")
    indices, y = node.inputs[1], node.outputs[0]
    integers = edit.op("Gather", q, indices, attributes={"axis": 0}, like=y)
    integers.type = ir.TensorType(ir.DataType.INT8)
    scales = edit.op("Gather", s, indices, attributes={"axis": 0}, like=y)
    if y.shape is not None:
        scales.shape = ir.Shape([*y.shape[:-1], 1])
    floats = edit.op("Cast", integers, attributes={"to": int(ir.DataType.FLOAT)}, like=y)
    replace(node, edit, edit.op("Mul", floats, scales, like=y))
