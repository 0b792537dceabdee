"""A graph on its way to a tool and back: files in a work folder, and what must be the same afterwards."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel
from export.activations.readers import Readers
from export.formats.report import WeightReport
from export.values import in_memory, is_weight
from export.write import INLINE_BYTES, write_graphs
from quant.loss import error

SENT = "float.onnx"
HIDDEN = "left.as.it.is"
# protobuf, which the tools hold a whole graph in, knows no larger message
LARGEST_BYTES = 2**31 - 2**24


def send(model: ir.Model, work: Path, held: Collection[str] | None = None) -> Path:
    """Write a graph for a tool; the model is left as it is.

    Args:
        model: what to write.
        work: a folder.
        held: for a tool that runs nothing, the large weights that it needs the numbers of; all others become inputs
            for the time being, so that they are in nobody's memory. None for all, and a graph that runs.

    Raises:
        UnsupportedModel: more numbers than the tool can hold.
        StorageError: the folder cannot be written.
    """
    check_size(model, held)
    sent = model.clone()
    if held is not None:
        for name, value in list(sent.graph.initializers.items()):
            if _is_left(name, value, held):
                _become_input(sent.graph, value)
        _hide(sent.graph)
    write_graphs({"float": sent}, work, "float.bin")
    return work / SENT


def check_size(model: ir.Model, held: Collection[str] | None = None) -> None:
    """Refuse what no tool can hold, before anything is read; `held` as for `send`.

    Raises:
        UnsupportedModel: too many bytes.
    """
    stored = model.graph.initializers
    total = sum(_size(value) for name, value in stored.items() if held is None or not _is_left(name, value, held))
    if total > LARGEST_BYTES:
        raise UnsupportedModel(
            f"expected at most {LARGEST_BYTES / 2**30:.1f} GiB of weights for onnxruntime's quantization, found "
            f"{total / 2**30:.1f} GiB; take --quant int8, which reads one weight at a time"
        )


def _is_left(name: str, value: ir.Value, held: Collection[str]) -> bool:
    return name not in held and is_weight(value) and _size(value) > INLINE_BYTES


def _size(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes


def _hide(graph: ir.Graph) -> None:
    """The tool turns every Gemm into MatMul and Add, also those that it is not to touch: it must not know them."""
    hidden = [node for node in graph if node.op_type == "Gemm" and not node.domain]
    for node in hidden:
        node.domain, node.op_type = HIDDEN, "Hidden"
    if hidden:
        graph.opset_imports[HIDDEN] = 1


def _become_input(graph: ir.Graph, value: ir.Value) -> None:
    tensor = value.const_value
    if tensor is not None:
        value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
    del graph.initializers[str(value.name)]
    value.const_value = None
    graph.inputs.append(value)


def receive(path: Path, before: ir.Model) -> ir.Model:
    """What a tool wrote, in memory, with the inputs, outputs and untouched weights that the graph had.

    Raises:
        UnsupportedModel: the tool changed inputs or outputs.
    """
    after = ir.external_data.load_to_model(ir.load(path))
    graph, wanted = after.graph, before.graph
    for node in graph.all_nodes():
        _come_back(node)
    graph.opset_imports.pop(HIDDEN, None)
    for value in list(graph.inputs):
        name = str(value.name)
        if name in wanted.initializers and not wanted.initializers[name].is_graph_input():
            graph.inputs.remove(value)
            value.const_value = wanted.initializers[name].const_value
            graph.register_initializer(value)
    _same(graph.inputs, wanted.inputs, "inputs")
    _same(graph.outputs, wanted.outputs, "outputs")
    for name, value in graph.initializers.items():
        if name in wanted.initializers:
            value.const_value = wanted.initializers[name].const_value
    after.ir_version = before.ir_version
    after.metadata_props.clear()
    after.metadata_props.update(before.metadata_props)
    for number, node in enumerate(graph):
        node.name = node.name or f"{node.outputs[0].name or number}/{node.op_type}"
    return after


def _come_back(node: ir.Node) -> None:
    """Undo what was hidden, and read what constant nodes hold: the tools put that into their file, too."""
    if node.domain == HIDDEN:
        node.domain, node.op_type = "", "Gemm"
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR:
            node.attributes[name] = ir.AttrTensor(name, in_memory(attribute.as_tensor()))


def _same(found: Iterable[ir.Value], wanted: Iterable[ir.Value], what: str) -> None:
    found, wanted = list(found), list(wanted)
    names, expected = [value.name for value in found], [value.name for value in wanted]
    if names != expected:
        raise UnsupportedModel(
            f"expected onnxruntime's tool to keep the {what} {expected}, found {names}; take --quant int8"
        )
    for value, original in zip(found, wanted, strict=True):
        value.type, value.shape = original.type, original.shape


def reports(after: ir.Model, before: ir.Model, found: Readers, fmt: str) -> list[WeightReport]:
    """What became of every weight, in the order in which they were named; what is still float has a reason.

    Raises:
        UnsupportedModel: a scale that is no positive number.
    """
    out = []
    for name in found.names:
        if name in found.left:
            size = _size(before.graph.initializers[name])
            out.append(WeightReport(name, "fp32", size, size, reason=found.left[name]))
        else:
            out.append(_report(after, before, name, fmt))
    return out


def _report(after: ir.Model, before: ir.Model, name: str, fmt: str) -> WeightReport:
    tensor = before.graph.initializers[name].const_value
    stored = after.graph.initializers
    size = 0 if tensor is None else tensor.nbytes
    if tensor is None or f"{name}_quantized" not in stored:
        return WeightReport(name, "fp32", size, size, reason="onnxruntime's tool did not take it")
    q, s, z = (stored[f"{name}_{part}"].const_value for part in ("quantized", "scale", "zero_point"))
    if q is None or s is None or z is None:
        raise UnsupportedModel(f"expected constant integers of the weight {name}, found some that are computed")
    scales, zeros = np.asarray(s.numpy()), np.asarray(z.numpy())
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise UnsupportedModel(f"expected positive scales of the weight {name}, found others; keep it with --keep")
    axis = channel_axis(after, name)
    shape = [-1 if i == axis else 1 for i in range(len(q.shape))]
    if scales.size > 1 and math.prod(scales.shape) != q.shape[axis]:
        raise UnsupportedModel(f"expected a scale per channel of the weight {name}, found {scales.size}")
    around = (part.reshape(shape) if part.size > 1 else part for part in (zeros, scales))
    zero, scale = (part.astype(np.float32) for part in around)
    lost = error(tensor.numpy(), (q.numpy().astype(np.float32) - zero) * scale)
    floats = any(use.node.op_type == "DequantizeLinear" for use in stored[f"{name}_quantized"].uses())
    reason = "multiplied as floats: its output is not rounded" if floats else ""
    return WeightReport(name, fmt, size, q.nbytes + s.nbytes + z.nbytes, lost.relative, lost.sqnr_db, reason)


def channel_axis(model: ir.Model, name: str) -> int:
    """Along which axis the scales of a quantized weight lie."""
    uses = model.graph.initializers[f"{name}_quantized"].uses()
    node = next(iter(uses)).node
    if node.op_type == "DequantizeLinear":
        return node.attributes.get_int("axis", 1)
    return 0 if node.op_type in {"ConvInteger", "QLinearConv"} else 1
