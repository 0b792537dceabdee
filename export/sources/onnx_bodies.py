"""Operators that are newer than the common opset are written out by the function bodies that ONNX itself gives them.

`Attention`, `RMSNormalization` and `RotaryEmbedding` (opset 23) and `Swish` (24) are defined in plain operators, with
every mask, scale, head count and cache that they take. Those run on older runtimes, are cut and quantized as always,
and have gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnx.defs
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, ShapeInferencePass
from onnx_ir.traversal import RecursiveGraphIterator

DOMAIN = "edgequilt.written"


def write_out(model: ir.Model, version: int, is_old: Callable[[ir.Node], bool]) -> None:
    """Put bodies in place of newer operators, in place; those without a body stay as they are.

    Args:
        model: with its functions inlined.
        version: of its main opset.
        is_old: whether a node needs no body.
    """
    newer = [node for node in RecursiveGraphIterator(model.graph) if not node.domain and not is_old(node)]
    if not newer:
        return
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    for number, node in enumerate(newer):
        body = _body(node, version)
        if body is None:
            continue
        body.domain, body.name = DOMAIN, f"{node.op_type}.{number}"
        function = ir.serde.deserialize_function(body)
        function.opset_imports[""] = version  # a body may name the opset that brought its operator
        model.functions[function.identifier()] = function
        node.domain, node.op_type = DOMAIN, body.name
        for place, output in enumerate(node.outputs):
            output.name = output.name or f"{body.name}.unread.{place}"
    model.graph.opset_imports[DOMAIN] = 1
    InlinePass()(model)
    del model.graph.opset_imports[DOMAIN]


def _body(node: ir.Node, version: int) -> onnx.FunctionProto | None:
    """The plain operators that a node stands for; None where ONNX has none, or not for what is known of its inputs."""
    try:
        # onnx does not type what it says of bodies
        schema: Any = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return None
    if schema.has_context_dependent_function:
        types = [_type(value) for value in node.inputs]
        since = max(v for v in schema.context_dependent_function_opset_versions if v <= version)
        made = schema.get_context_dependent_function_with_opset_version(
            since, ir.to_proto(node).SerializeToString(), types
        )
    elif schema.has_function:
        made = schema.get_function_with_opset_version(max(v for v in schema.function_opset_versions if v <= version))
    else:
        return None
    body = onnx.FunctionProto()
    body.ParseFromString(made)
    if not body.node:
        return None
    _complete(body, len(node.outputs))
    return body


def _complete(body: onnx.FunctionProto, count: int) -> None:
    """Only the first outputs; one that nobody asked for is not in the body, and becomes what nothing reads."""
    del body.output[count:]
    made = {name for node in body.node for name in node.output}
    for name in body.output:
        if name not in made:
            body.node.append(onnx.helper.make_node("Identity", [body.output[0]], [name]))


def _type(value: ir.Value | None) -> bytes:
    """Of an input, as ONNX writes it; empty for one that is left out or not known."""
    if value is None or value.dtype is None:
        return b""
    proto = onnx.TypeProto()
    proto.tensor_type.elem_type = int(value.dtype)
    if value.shape is not None:
        proto.tensor_type.shape.SetInParent()
        for dim in value.shape:
            one = proto.tensor_type.shape.dim.add()
            if isinstance(dim, int):
                one.dim_value = dim
    return bytes(proto.SerializeToString())
