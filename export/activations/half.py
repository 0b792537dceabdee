"""Rounded activations in the forward half of a backward graph; the half that runs back stays in float32.

    y = x W       x_u8, s_x, z_x = DynamicQuantizeLinear(x)
                  y = MatMulIntegerToFloat(x_u8, Transpose(q), s_x, s_W, z_x, z_W)      q [out, in] int8, s_W [out]
    dx = g W^T    MatMul(g, DequantizeLinear(q, s_W, z_W))                              as it was

The bytes of a weight are those that all other graphs read, by output channel: the kernel wants [in, out], and turning
int8 around at every use costs a thirtieth of the product that it saves (measured: 0.2 of 6.3 ms for 512 rows of
1536 x 384), where a second copy would cost a quarter of the weights' file.

What is lost is noise in the gradient, which steps of training average out. A forward graph is never rounded: central
differences of rounded activations are noise alone.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.edit import Edit, redirect, replace
from export.formats.format import typed
from export.formats.layout import MICROSOFT
from export.gradient.dims import shape_of
from export.gradient.emitter import BACKWARD
from export.gradient.present import present
from export.values import is_weight


def round_forward_half(model: ir.Model) -> int:
    """Let products with int8 weights in the forward half multiply integers, in place; how many there are.

    Args:
        model: a backward graph with weights in their formats. Products of other weights stay as they are.
    """
    graph = model.graph
    weights = {node: weight for node in graph if (weight := _weight_of(node)) is not None}
    for node, weight in weights.items():
        edit = Edit(graph, f"{node.name}/rounded")
        replace(node, edit, _product(edit, node, weight))
    _share(graph)
    RemoveUnusedNodesPass()(model)
    return len(weights)


def _weight_of(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear of int8 by output channel that a product of the forward half reads, transposed."""
    if (node.domain, node.op_type) != (MICROSOFT, "FusedMatMul") or BACKWARD in str(node.name):
        return None
    flags = {name: node.attributes.get_int(name, 0) for name in ("transA", "transBatchA", "transBatchB")}
    if any(flags.values()) or not node.attributes.get_int("transB", 0) or node.attributes.get_float("alpha", 1.0) != 1:
        return None
    weight = present(node.inputs[1]).producer()
    if weight is None or weight.op_type != "DequantizeLinear" or weight.attributes.get_int("axis", 1) != 0:
        return None
    q = present(weight.inputs[0])
    matrix = q.dtype == ir.DataType.INT8 and len(shape_of(q) or ()) == 2
    return weight if matrix and all(value is not None and is_weight(value) for value in weight.inputs) else None


def _product(edit: Edit, node: ir.Node, weight: ir.Node) -> ir.Value:
    x, y = present(node.inputs[0]), node.outputs[0]
    q, scales, zeros = (present(value) for value in weight.inputs)
    rows, columns = present(present(q.const_value).shape).numpy()
    integers = ir.node("DynamicQuantizeLinear", [x], num_outputs=3, name=f"{edit.prefix}/DynamicQuantizeLinear")
    edit.nodes.append(integers)
    for value, end in zip(integers.outputs, ("u8", "scale", "zero_point"), strict=True):
        value.name = f"{edit.prefix}/{end}"
    u8, s_x, z_x = integers.outputs
    u8.type, u8.shape = ir.TensorType(ir.DataType.UINT8), x.shape
    typed(s_x, ir.DataType.FLOAT, ())
    typed(z_x, ir.DataType.UINT8, ())
    turned = typed(edit.op("Transpose", q, attributes={"perm": [1, 0]}), ir.DataType.INT8, (columns, rows))
    return edit.op("MatMulIntegerToFloat", u8, turned, s_x, scales, z_x, zeros, domain=MICROSOFT, like=y)


def _share(graph: ir.Graph) -> None:
    """Products of one input read it rounded once: the first of its roundings in the order of the file."""
    first: dict[ir.Value, ir.Node] = {}
    for node in graph:
        if node.op_type == "DynamicQuantizeLinear" and first.setdefault(present(node.inputs[0]), node) is not node:
            for old, new in zip(node.outputs, first[present(node.inputs[0])].outputs, strict=True):
                redirect(old, new)
