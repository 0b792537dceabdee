"""Gemm with a constant weight becomes MatMul and Add.

Afterwards every linear layer has one form, W as [in, out] on the right of a MatMul: rules, costs and
quantizers (onnxruntime's 4-bit ones skip Gemm without a word) need to know no other.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from console.errors import UnsupportedModel
from export.edit import Edit, replace
from export.linears import Linear, linears
from export.mapped import Turned


def split_gemm(model: ir.Model, weights: Collection[str] | None = None) -> int:
    """Rewrite in place, all of them or those that read one of the named weights; how many were rewritten.

    y = alpha op(x) op(W) + beta c becomes (alpha op(x)) W' + beta c, where W' is [in, out]. A weight that
    was stored as [out, in] is transposed once, and its new name ends with `.t`.
    """
    found = [
        linear
        for linear in linears(model)
        if linear.node.op_type == "Gemm" and (weights is None or linear.weight.name in weights)
    ]
    for linear in found:
        _split(model.graph, linear)
    return len(found)


def _split(graph: ir.Graph, linear: Linear) -> None:
    node = linear.node
    edit = Edit(graph, f"{node.name or linear.weight.name}/split")
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    x = node.inputs[0]
    if node.attributes.get_int("transA", 0):
        x = edit.op("Transpose", x, attributes={"perm": [1, 0]})
    if alpha != 1.0:
        x = edit.op("Mul", x, edit.constant("alpha", alpha))
    weight = _transposed(graph, linear.weight) if linear.transposed else linear.weight
    total = edit.op("MatMul", x, weight, like=node.outputs[0])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and beta != 0.0:
        bias = bias if beta == 1.0 else edit.op("Mul", bias, edit.constant("beta", beta))
        total = edit.op("Add", total, bias, like=node.outputs[0])
    replace(node, edit, total)


def _transposed(graph: ir.Graph, weight: ir.Value) -> ir.Value:
    """The weight as [in, out]; read and turned only when it is written or quantized."""
    name = f"{weight.name}.t"
    if name in graph.initializers:
        return graph.initializers[name]
    held = weight.const_value
    if held is None:
        raise UnsupportedModel(f"expected the weight {weight.name} to have values, found none; export it again")
    value = ir.val(name, const_value=Turned(held, name))
    graph.register_initializer(value)
    return value
