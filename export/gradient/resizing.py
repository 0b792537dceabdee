"""The rule of Resize, whatever its mode: it is linear and acts along one axis after the other."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from export.gradient.constants import constant_array
from export.gradient.dims import dims_of, fixed
from export.gradient.moves import Array, along
from export.gradient.present import present
from export.gradient.registry import Call, Products, cuts_a_rank, rule
from export.gradient.tape import Tape

# What decides where a pixel of the output lies, beside its sizes.
KEPT = (
    *("antialias", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value"),
    *("mode", "nearest_mode"),
)


MAPPINGS = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")


def _problem(node: ir.Node) -> str | None:
    if any(value is not None and constant_array(value) is None for value in node.inputs[1:]):
        return "its sizes are not constant"
    for name, known in (("coordinate_transformation_mode", MAPPINGS), ("keep_aspect_ratio_policy", ("stretch",))):
        attribute = node.attributes.get(name)
        if attribute is not None and attribute.as_string() not in known:
            return f"attribute {name} is {attribute.as_string()}"
    return cuts_a_rank(node)


def _scales(node: ir.Node) -> list[float] | None:
    """Per axis the factor that the node states; None where it states sizes."""
    scales = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    if scales is None or not scales.size:
        return None
    rank = len(dims_of(present(node.inputs[0])))
    attribute = node.attributes.get("axes")
    axes = list(range(rank)) if attribute is None else [axis % rank for axis in attribute.as_ints()]
    factors = dict(zip(axes, scales.tolist(), strict=True))
    return [factors.get(axis, 1.0) for axis in range(rank)]


def _matrix(node: ir.Node, axis: int, opset: int) -> Array:
    """[in, out]: what each element of `axis` counts in the result, by onnxruntime's own kernel on unit vectors."""
    before, after = (fixed(dims_of(value)[axis]) for value in (present(node.inputs[0]), node.outputs[0]))
    scales, helper = _scales(node), onnx.helper
    if scales is None:
        inputs, feeds = ["x", "", "", "s"], {"s": np.array([before, after], np.int64)}
        kind = onnx.TensorProto.INT64
    else:
        inputs, feeds = ["x", "", "s"], {"s": np.array([1.0, scales[axis]], np.float32)}
        kind = onnx.TensorProto.FLOAT
    attributes = {name: node.attributes[name].value for name in KEPT if name in node.attributes}
    graph = helper.make_graph(
        [helper.make_node("Resize", inputs, ["y"], **attributes)],
        "unit vectors",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [before, before])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [before, after])],
        [helper.make_tensor("s", kind, [2], feeds["s"])],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"x": np.eye(before, dtype=np.float32)})[0])


@rule("Resize", inputs=(0,), check=_problem)
def resize(t: Tape, c: Call) -> Products:
    """`y = P x along each axis` with P [out, in]: dx = P^T g along each axis."""
    before, after = dims_of(c.input(0)), dims_of(c.y)
    scales = _scales(c.node)

    def product() -> ir.Value:
        g = c.g
        for axis in range(len(before)):
            if before[axis] != after[axis] or (scales is not None and scales[axis] != 1.0):
                g = along(t, g, axis, _matrix(c.node, axis, t.opset))
        return g

    return {0: product}
