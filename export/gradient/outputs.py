"""Optional outputs that an operator computes anyway and that a rule reads."""

from __future__ import annotations

import onnx_ir as ir

from export.gradient.dims import Dims
from export.gradient.tape import Tape


def output(t: Tape, node: ir.Node, position: int, dims: Dims, dtype: ir.DataType) -> ir.Value:
    """Output `position` of `node`, made and named if the graph has left it out."""
    if len(node.outputs) <= position:
        node.resize_outputs(position + 1)
    value = node.outputs[position]
    if not value.name:
        value.name = t.fresh(f"{node.name or node.op_type}/output")
    value.shape, value.dtype = ir.Shape(dims), dtype
    return value
