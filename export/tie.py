"""Tied weights are one weight: an embedding table that is the transposed output layer as well.

Exporters write the two as two initializers, one of them transposed, and constant folding makes a second copy of a
shared one, or leaves a large one to be transposed at every run. Put together again, the product reads the table itself
(FusedMatMul, which onnxruntime has since 1.2 and its optimizer leaves alone), and quantization has the same rows and
scales for both.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from export.edit import Edit, replace
from export.gradient.dims import dims_of
from export.linears import constant, linears
from export.mapped import reading
from export.values import is_weight

MICROSOFT = "com.microsoft"
SMALLEST = 1 << 16  # entries; below this a second copy costs less than a pass over it
BLOCK_ROWS = 4096


def tie_weights(model: ir.Model) -> list[str]:
    """Let products read the table that they are the transposed of, in place; the names of these tables.

    Args:
        model: frozen, with known shapes; its products are MatMul with a weight [in, out].
    """
    graph = model.graph
    tied = _by_transposes(graph)
    tables = [value for value in graph.initializers.values() if is_weight(value) and _is_table(value)]
    for linear in linears(model):
        if linear.node.op_type != "MatMul" or linear.features_in * linear.features_out < SMALLEST:
            continue
        table = next((t for t in tables if _transposed(t, linear.weight)), None)
        if table is None:
            continue
        edit = Edit(graph, f"{linear.node.name or linear.weight.name}/tied")
        weight = linear.weight
        _multiply(edit, linear.node, table)
        if not weight.uses():
            graph.initializers.pop(str(weight.name), None)
        tied.append(str(table.name))
    return list(dict.fromkeys(tied))


def _by_transposes(graph: ir.Graph) -> list[str]:
    """Let products read weights that they read transposed, which is more than a fold may copy; names of tables."""
    found = []
    for node in [n for n in graph if n.op_type == "Transpose" and not n.domain]:
        weight = node.inputs[0]
        if weight is None or not is_weight(weight) or weight.dtype != ir.DataType.FLOAT or len(dims_of(weight)) != 2:
            continue
        if list(node.attributes.get_ints("perm", (1, 0))) != [1, 0]:
            continue
        products = [u.node for u in node.outputs[0].uses() if _is_product(u.node, u.idx) and u.node.graph is graph]
        for product in products:
            _multiply(Edit(graph, f"{product.name or weight.name}/tied"), product, weight)
        if products and not node.outputs[0].uses():
            graph.remove(node, safe=True)
        if products and _is_table(weight):
            found.append(str(weight.name))
    return found


def _is_product(node: ir.Node, index: int) -> bool:
    return node.op_type == "MatMul" and not node.domain and index == 1


def _multiply(edit: Edit, node: ir.Node, weight: ir.Value) -> None:
    """x W^T where a product stood, of the W that is there."""
    flags = {"transA": 0, "transB": 1, "alpha": 1.0}
    y = edit.op("FusedMatMul", node.inputs[0], weight, attributes=flags, domain=MICROSOFT, like=node.outputs[0])
    replace(node, edit, y)


def _is_table(value: ir.Value) -> bool:
    return any(node.op_type == "Gather" and not node.domain and index == 0 for node, index in _uses(value))


def _uses(value: ir.Value) -> Iterable[tuple[ir.Node, int]]:
    return ((use.node, use.idx) for use in value.uses())


def _transposed(table: ir.Value, weight: ir.Value) -> bool:
    """Whether the two hold the same numbers, one [a, b] and the other [b, a]; compared in blocks of rows."""
    t, w = constant(table), constant(weight)
    if t is None or w is None or t.dtype != w.dtype or list(t.shape.numpy()) != list(reversed(w.shape.numpy())):
        return False
    with reading(t) as rows, reading(w) as columns:
        return all(
            np.array_equal(rows[at : at + BLOCK_ROWS], columns[:, at : at + BLOCK_ROWS].T)
            for at in range(0, len(rows), BLOCK_ROWS)
        )
