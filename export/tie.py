"""Tied weights are one weight: an embedding table that is the transposed output layer as well.

Exporters write the two as two initializers, one of them transposed, and constant folding makes a second copy of a
shared one. Put together again, the product reads the table itself (FusedMatMul, which onnxruntime has since 1.2 and
its optimizer leaves alone), and quantization has the same rows and scales for both.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from export.edit import Edit, replace
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
    graph, tied = model.graph, []
    tables = [value for value in graph.initializers.values() if is_weight(value) and _is_table(value)]
    for linear in linears(model):
        if linear.node.op_type != "MatMul" or linear.features_in * linear.features_out < SMALLEST:
            continue
        table = next((t for t in tables if _transposed(t, linear.weight)), None)
        if table is None:
            continue
        edit = Edit(graph, f"{linear.node.name or linear.weight.name}/tied")
        flags = {"transA": 0, "transB": 1, "alpha": 1.0}
        y = edit.op(
            "FusedMatMul", linear.node.inputs[0], table, attributes=flags, domain=MICROSOFT, like=linear.node.outputs[0]
        )
        weight = linear.weight
        replace(linear.node, edit, y)
        if not weight.uses():
            graph.initializers.pop(str(weight.name), None)
        tied.append(str(table.name))
    return list(dict.fromkeys(tied))


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
