"""Any supported opset becomes one that the rest of the exporter knows (18 to 21)."""

from __future__ import annotations

import onnx
import onnx.defs
import onnx_ir as ir
from onnx_ir.traversal import RecursiveGraphIterator

from console.errors import UnsupportedModel
from export.opset import FIRST_OPSET, raise_opset
from export.sources.onnx_bodies import write_out

HIGHEST = 21


def to_common_opset(model: ir.Model) -> None:
    """Convert in place; functions are inlined already.

    Raises:
        UnsupportedModel: it cannot be converted: the operators are named.
    """
    imports = model.graph.opset_imports
    if "ai.onnx" in imports:
        imports[""] = imports.pop("ai.onnx")
    version = imports.get("", HIGHEST)
    if version > HIGHEST:
        _lower(model, version)
    elif version < FIRST_OPSET:
        raise_opset(model)
    imports.setdefault("", HIGHEST)


def _lower(model: ir.Model, version: int) -> None:
    """Newer operators are written out; those that are the same in both are only relabelled.

    Since 21 most changes are new types.
    """
    write_out(model, version, lambda node: _is_in(node, HIGHEST))
    nodes = [node for node in RecursiveGraphIterator(model.graph) if node.domain in {"", "ai.onnx"}]
    unknown = sorted({node.op_type for node in nodes if not _is_in(node, HIGHEST)})
    if unknown:
        raise UnsupportedModel(
            f"expected operators of opset {HIGHEST}, found {', '.join(unknown)} of opset {version}; "
            f"export the model again with opset {HIGHEST} or lower"
        )
    for node in nodes:
        node.version = None
    model.graph.opset_imports[""] = HIGHEST


def _is_in(node: ir.Node, version: int) -> bool:
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return False
    known = set(schema.attributes)
    return (
        set(node.attributes) <= known
        and len(node.inputs) <= schema.max_input
        and len(node.outputs) <= schema.max_output
    )
