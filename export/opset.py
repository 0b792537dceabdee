"""Old operator sets: what a model of 2017 means, in the words of today.

Everything behind the doors speaks opset 18 and later. From below it an operator may mean something else under the
same name (Softmax flattens its input before opset 13) or keep in attributes what are inputs now, so a new number
alone would be wrong without a word; onnxscript's converter, which `freeze` uses from 18 on, writes just that.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes.common import InlinePass

from console.errors import UnsupportedModel
from export.quiet import quiet
from export.values import in_memory

FIRST_OPSET = 18
FIRST_IR = 4  # from here on a weight need not be an input as well
HALF_PIXEL = 11  # before it a pixel is resized by where its corner is, from here on by its middle
RESIZES = frozenset({"Upsample", "Resize"})
INLINE_BYTES = 1024  # what decides shapes is smaller; weights need not go through the converter


def raise_opset(model: ir.Model) -> None:
    """Bring a model to opset 18, in place; a newer one is left as it is.

    Weights are not read, and stay the tensors that they were. Values and nodes keep their names.

    Args:
        model: of any opset that onnx can convert.

    Raises:
        UnsupportedModel: an operator cannot be converted.
    """
    version = model.graph.opset_imports.get("", FIRST_OPSET)
    if version >= FIRST_OPSET:
        return
    InlinePass()(model)
    weights = dict(model.graph.initializers)
    before = {node.outputs[0].name: (node.op_type, node.name) for node in model.graph}
    fed = [value.name for value in model.graph.inputs]
    try:
        with quiet():
            converted = version_converter.convert_version(_light(model), FIRST_OPSET)
    except Exception as error:  # the converter raises RuntimeError and whatever its operators raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rpartition("failed: ")[2][:200]
        raise UnsupportedModel(
            f"expected a model that can be converted to opset {FIRST_OPSET}, found one of opset {version} that "
            f"cannot ({reason}); export it again with opset {FIRST_OPSET}"
        ) from error
    _take_over(model, ir.from_proto(converted).graph, weights, fed)
    for node in model.graph:
        op_type, name = before.get(node.outputs[0].name, ("", ""))
        node.name = node.name or name
        if version < HALF_PIXEL and op_type in RESIZES:  # what the converter forgets
            node.attributes.add(ir.AttrString("coordinate_transformation_mode", "asymmetric"))
            node.attributes.add(ir.AttrString("nearest_mode", "floor"))


def _light(model: ir.Model) -> onnx.ModelProto:
    """The model with every weight as an input that has no value; small ones, which decide shapes, keep theirs."""
    graph = model.graph
    taken = {name: value for name, value in graph.initializers.items() if _size_bytes(value) > INLINE_BYTES}
    for name, value in graph.initializers.items():
        if name not in taken and value.const_value is not None:
            value.const_value = in_memory(value.const_value)
    given = list(graph.inputs)
    try:
        for name, value in taken.items():
            if value.const_value is not None:
                value.type, value.shape = ir.TensorType(value.const_value.dtype), value.const_value.shape  # type: ignore[assignment] # a tensor's shape is one
            del graph.initializers[name]
            if value not in given:
                graph.inputs.append(value)
        proto = ir.to_proto(model)
        proto.ir_version = max(proto.ir_version, FIRST_IR)
        return proto
    finally:
        del graph.inputs[len(given) :]
        for value in taken.values():
            graph.register_initializer(value)


def _size_bytes(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes


def _take_over(model: ir.Model, graph: ir.Graph, weights: dict[str, ir.Value], fed: list[str | None]) -> None:
    """The converted graph in place of the old one, its weights as they were."""
    made = {value.name: value for value in graph.inputs} | dict(graph.initializers)
    for name, old in weights.items():
        if name in made:
            made[name].const_value = old.const_value
            graph.register_initializer(made[name])
    for position in reversed(range(len(graph.inputs))):
        if graph.inputs[position].name not in fed:
            graph.inputs.pop(position)
    model.graph = graph
