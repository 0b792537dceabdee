"""Gelu, spelled out by exporters in five nodes, becomes one.

y = 0.5 x (1 + erf(x / sqrt 2)): Hendrycks and Gimpel, arXiv:1606.08415, section 2; ONNX has it from opset 20.
Fused, backward keeps x alone; spelled out, it keeps four tensors of the widest layer.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from export.edit import Edit, redirect
from export.linears import constant


def fuse_gelu(model: ir.Model) -> int:
    """Rewrite every erf-Gelu of the main graph in place; how many there were.

    The two forms that exporters write are found, operands in either order: ((x (1 + e)) 0.5) and
    ((0.5 x) (1 + e)), with e = erf(x / sqrt 2) or erf(x sqrt 0.5).
    """
    count = 0
    for node in list(model.graph):
        if node.op_type == "Erf" and not node.domain and node.graph is not None:
            count += _fuse(model.graph, node)
    return count


def _fuse(graph: ir.Graph, erf: ir.Node) -> bool:
    x = _scaled_input(erf)
    one_plus = _only_user(erf.outputs[0], "Add")
    if x is None or one_plus is None or not _is_near(_other(one_plus, erf.outputs[0]), 1.0):
        return False
    product = _only_user(one_plus.outputs[0], "Mul")
    if product is None:
        return False
    factor = _other(product, one_plus.outputs[0])
    last = product
    if factor is x:
        halved = _only_user(product.outputs[0], "Mul")
        if halved is None or not _is_near(_other(halved, product.outputs[0]), 0.5):
            return False
        last = halved
    elif not _is_half_of(factor, x):
        return False
    edit = Edit(graph, str(last.name or last.outputs[0].name))
    fused = edit.op("Gelu", x)
    edit.put_before(last)
    redirect(last.outputs[0], fused)
    return True


def _scaled_input(erf: ir.Node) -> ir.Value | None:
    """The x of erf(x / sqrt 2)."""
    source = erf.inputs[0]
    node = source.producer() if source is not None else None
    if node is None or node.domain:
        return None
    if node.op_type == "Div" and _is_near(node.inputs[1], math.sqrt(2.0)):
        return node.inputs[0]
    if node.op_type == "Mul":
        for index in (0, 1):
            if _is_near(node.inputs[index], math.sqrt(0.5)):
                return node.inputs[1 - index]
    return None


def _is_half_of(value: ir.Value | None, x: ir.Value) -> bool:
    node = value.producer() if value is not None else None
    if node is None or node.domain or node.op_type not in {"Mul", "Div"}:
        return False
    if node.op_type == "Div":
        return node.inputs[0] is x and _is_near(node.inputs[1], 2.0)
    return x in node.inputs and _is_near(_other(node, x), 0.5)


def _only_user(value: ir.Value, op_type: str) -> ir.Node | None:
    """The one node that reads a value, if it is of this type and nothing outside sees the value."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    return node if node.op_type == op_type and not node.domain else None


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The second operand of a node of two."""
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _is_near(value: ir.Value | None, number: float) -> bool:
    """Whether a value is this scalar constant, up to what fp32 keeps of it."""
    tensor = constant(value)
    if tensor is None or tensor.size != 1:
        return False
    return math.isclose(float(np.asarray(tensor.numpy()).reshape(())), number, rel_tol=1e-6)
