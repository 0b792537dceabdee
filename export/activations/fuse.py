"""What the tools leave as patterns becomes the operators that the runtime would put in their place.

    DequantizeLinear(x), DequantizeLinear(W), MatMul, Add     MatMulIntegerToFloat
    MatMulInteger, Cast, Mul(s_x, s_W), Mul, Add              MatMulIntegerToFloat
    DequantizeLinear(x, W, b), Conv, QuantizeLinear           QLinearConv
    DequantizeLinear, MaxPool or Reshape ..., QuantizeLinear  the same of uint8
    QuantizeLinear, DequantizeLinear, Add ...                 Add: the tool rounds x for all of its readers

The runtime does this itself, but only when it optimizes ("extended" and more), and there it makes a Gemm of floats
of every product of fixed sizes with a bias behind it (MatMulAddFusion, 1.23 to 1.31): every weight would be
dequantized in every run. Boards run graphs as they are written (`export.chain.PLAIN`), so that their memory can be
predicted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from export.edit import Edit, redirect, replace
from export.formats.layout import MICROSOFT
from export.gradient.dims import shape_of
from export.gradient.present import present
from export.values import is_weight

# they move numbers, or choose among them, and know uint8
CARRIERS = frozenset({"MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"})


def fuse(model: ir.Model) -> None:
    """Rewrite a graph that a tool wrote, in place."""
    graph = model.graph
    for node in list(graph):
        if node.domain:
            continue
        if node.op_type == "MatMul" and _dequantized(node, 0) and _dequantized(node, 1):
            _product(graph, node)
        elif node.op_type == "MatMulInteger":
            _dynamic_product(graph, node)
        elif node.op_type == "Conv" and _dequantized(node, 0) and _dequantized(node, 1):
            _convolution(graph, node)
        elif node.op_type in CARRIERS and _dequantized(node, 0):
            _carry(graph, node)
    for node in list(graph):
        if node.op_type == "DequantizeLinear":
            _pass_by(node)
    RemoveUnusedNodesPass()(model)
    # shapes and types of what is new; what a cost or a peak is counted from
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)


def _pass_by(node: ir.Node) -> None:
    """Who reads floats that were rounded for others reads them unrounded: they are there."""
    producer = entry(node, 0).producer()
    if producer is not None and producer.op_type == "QuantizeLinear":
        redirect(node.outputs[0], entry(producer, 0))


def entry(node: ir.Node, index: int) -> ir.Value:
    """An input that is there."""
    return present(node.inputs[index])


def _dequantized(node: ir.Node, index: int) -> ir.Node | None:
    """The DequantizeLinear that an input comes from."""
    producer = entry(node, index).producer()
    return producer if producer is not None and producer.op_type == "DequantizeLinear" else None


def _rounded(value: ir.Value) -> ir.Node | None:
    """The QuantizeLinear that alone reads a value."""
    readers = [use.node for use in value.uses()]
    alone = len(readers) == 1 and not value.is_graph_output()
    return readers[0] if alone and readers[0].op_type == "QuantizeLinear" else None


def _parts(node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Integers or floats, scale, zero point."""
    return entry(node, 0), entry(node, 1), entry(node, 2)


def _product(graph: ir.Graph, node: ir.Node) -> None:
    (x, s_x, z_x), (w, s_w, z_w) = (_parts(present(_dequantized(node, index))) for index in (0, 1))
    _write(graph, node, f"{node.name}/int8", (x, w, s_x, s_w, z_x, z_w))


def _dynamic_product(graph: ir.Graph, node: ir.Node) -> None:
    cast = only_reader(node)
    last = only_reader(cast)
    scales = next(value for value in last.inputs if value is not cast.outputs[0])
    s_x, s_w = present(present(scales).producer()).inputs
    x, w, z_x, z_w = node.inputs
    _write(graph, last, str(node.name), (x, w, s_x, s_w, z_x, z_w))


def _write(graph: ir.Graph, last: ir.Node, name: str, inputs: Sequence[ir.Value | None]) -> None:
    """The product in the place of the node that ends it, with the bias that is added to it alone."""
    columns = present(present(inputs[1]).const_value).shape[-1]
    uses = [use.node for use in last.outputs[0].uses()]
    bias = None
    if len(uses) == 1 and uses[0].op_type == "Add" and not last.outputs[0].is_graph_output():
        others = [value for value in uses[0].inputs if value is not None and value is not last.outputs[0]]
        if len(others) == 1 and is_weight(others[0]) and list(shape_of(others[0]) or ()) == [columns]:
            last, bias = uses[0], others[0]
    edit = Edit(graph, name)
    given = inputs if bias is None else (*inputs, bias)
    replace(last, edit, edit.op("MatMulIntegerToFloat", *given, domain=MICROSOFT, like=last.outputs[0]))


def only_reader(node: ir.Node) -> ir.Node:
    """The node that reads a node's output."""
    return next(iter(node.outputs[0].uses())).node


def _convolution(graph: ir.Graph, node: ir.Node) -> None:
    rounded = _rounded(node.outputs[0])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if rounded is None or (bias is not None and _dequantized(node, 2) is None):
        return  # a product of floats with an int8 weight: the report says so
    (x, s_x, z_x), (w, s_w, z_w) = (_parts(present(_dequantized(node, index))) for index in (0, 1))
    inputs = [x, s_x, z_x, w, s_w, z_w, entry(rounded, 1), entry(rounded, 2)]
    if bias is not None:
        inputs.append(entry(present(_dequantized(node, 2)), 0))
    edit = Edit(graph, f"{node.name}/int8")
    settings = {name: attribute.value for name, attribute in node.attributes.items()}
    replace(rounded, edit, edit.op("QLinearConv", *inputs, attributes=settings, like=rounded.outputs[0]))


def _carry(graph: ir.Graph, node: ir.Node) -> None:
    before, after = present(_dequantized(node, 0)), _rounded(node.outputs[0])
    if after is None or not all(_equal(entry(before, k), entry(after, k)) for k in (1, 2)):
        return
    edit = Edit(graph, f"{node.name}/uint8")
    settings = {name: attribute.value for name, attribute in node.attributes.items()}
    moved = edit.op(node.op_type, entry(before, 0), *node.inputs[1:], attributes=settings, like=after.outputs[0])
    replace(after, edit, moved)


def _equal(a: ir.Value, b: ir.Value) -> bool:
    if a is b:
        return True
    return (
        a.const_value is not None
        and b.const_value is not None
        and bool(np.array_equal(a.const_value.numpy(), b.const_value.numpy()))
    )
