"""A bias is added where its product is formed: one pass over the output of a layer less.

    MatMul(x, W) + b, FusedMatMul(x, W') + b      Gemm of x as rows, with b
    MatMulIntegerToFloat(...) + b                 the same with b, which it takes
    (product + slot) + b                          (product + b) + slot

Sums are the same numbers in another order. Only for graphs that are run as they stand: onnxruntime's own passes look
for products without a bias.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from export.edit import Edit, redirect, replace
from export.formats.layout import MICROSOFT
from export.gradient.dims import dims_of, shape_of
from export.gradient.present import present
from export.values import is_weight

WITHOUT_BIAS = 6  # inputs of MatMulIntegerToFloat


def fold_bias(model: ir.Model) -> int:
    """Rewrite every product with a bias of its own behind it, in place; how many there were."""
    count = 0
    for node in list(model.graph):
        weight = _weight_of(node)
        found = None if weight is None else _bias_behind(node.outputs[0])
        if weight is None or found is None:
            continue
        add, bias = found
        _skip(add, bias)
        edit = Edit(model.graph, f"{node.name}/bias")
        replace(node, edit, _product(edit, node, weight, bias))
        count += 1
    return count


def _weight_of(node: ir.Node) -> ir.Value | None:
    """The matrix that a product reads, which is stored or restored, if a bias can be part of the product."""
    kind = (node.domain, node.op_type)
    if kind == (MICROSOFT, "MatMulIntegerToFloat"):
        return node.inputs[1] if len(node.inputs) == WITHOUT_BIAS else None
    if kind not in {("", "MatMul"), (MICROSOFT, "FusedMatMul")}:
        return None
    if any(node.attributes.get_int(name, 0) for name in ("transA", "transBatchA", "transBatchB")):
        return None
    x, weight = present(node.inputs[0]), present(node.inputs[1])
    producer = weight.producer()
    restored = (
        producer is not None and producer.op_type == "DequantizeLinear" and is_weight(present(producer.inputs[0]))
    )
    sizes = shape_of(x) or [None]
    known = len(sizes) > 1 and all(isinstance(size, int) for size in sizes) and len(shape_of(weight) or ()) == 2
    return weight if known and (restored or is_weight(weight)) else None


def _bias_behind(product: ir.Value) -> tuple[ir.Node, ir.Value] | None:
    """The sum that ends a layer and the bias that it adds, directly behind a product or behind its slot's sum."""
    add = _only_sum(product)
    if add is None:
        return None
    bias = _bias_in(add, product)
    if bias is None:
        behind = _only_sum(add.outputs[0]) if shape_of(add.outputs[0]) == shape_of(product) else None
        bias = None if behind is None else _bias_in(behind, add.outputs[0])
        add = add if behind is None else behind
    return None if bias is None else (add, bias)


def _only_sum(value: ir.Value) -> ir.Node | None:
    """The Add that alone reads a value."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    return node if (node.domain, node.op_type) == ("", "Add") else None


def _bias_in(add: ir.Node, value: ir.Value) -> ir.Value | None:
    """The stored vector over the last axis that a sum adds to a value."""
    others = [present(other) for other in add.inputs if other is not value]
    if len(others) != 1 or not is_weight(others[0]) or add.outputs[0].is_graph_output():
        return None
    return others[0] if shape_of(others[0]) == list(dims_of(value))[-1:] else None


def _skip(add: ir.Node, bias: ir.Value) -> None:
    """Who read a sum reads what was there before the bias."""
    before = next(present(value) for value in add.inputs if value is not bias)
    redirect(add.outputs[0], before)
    present(add.graph).remove(add, safe=True)


def _product(edit: Edit, node: ir.Node, weight: ir.Value, bias: ir.Value) -> ir.Value:
    y = node.outputs[0]
    if node.op_type == "MatMulIntegerToFloat":
        return edit.op("MatMulIntegerToFloat", *node.inputs, bias, domain=MICROSOFT, like=y)
    x, sizes = present(node.inputs[0]), [int(size) for size in dims_of(present(node.inputs[0]))]
    flat, made = (math.prod(sizes[:-1]), sizes[-1]), dims_of(y)
    settings = {"transB": node.attributes.get_int("transB", 0), "alpha": node.attributes.get_float("alpha", 1.0)}
    if len(sizes) == len(flat):
        return edit.op("Gemm", x, weight, bias, attributes=settings, like=y)
    rows = edit.op("Reshape", x, edit.constant("rows", flat, np.int64))
    product = edit.op("Gemm", rows, weight, bias, attributes=settings)
    for value, shape in ((rows, flat), (product, (flat[0], made[-1]))):
        value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(list(shape))
    return edit.op("Reshape", product, edit.constant("shape", made, np.int64), like=y)
