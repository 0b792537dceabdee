"""Models of old operator sets compute in today's what they computed in theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from console.errors import UnsupportedModel
from export.fold import freeze
from export.opset import raise_opset
from tests.export.runtime import Array, run, worst

SHAPE = [2, 3, 4, 5]


def saved(path: Path, opset: int, nodes: list[onnx.NodeProto], **weights: Array) -> ir.Model:
    """x [2, 3, 4, 5] through some nodes to y, its weights in a file beside it."""
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "old", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)
    onnx.save(model, path, save_as_external_data=True, location="old.bin", size_threshold=256)
    return ir.load(path)


def node(op_type: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node called `layer.0/OP` that makes y."""
    return helper.make_node(op_type, inputs, ["y"], name=f"layer.0/{op_type}", **attributes)


OLD = {
    "softmax flattens what follows its axis": (9, [node("Softmax", "x", axis=1)]),
    "limits of a clip are attributes": (9, [node("Clip", "x", min=-0.5, max=0.5)]),
    "so are the axes of a sum": (9, [node("ReduceSum", "x", axes=[1, 3], keepdims=0)]),
    "and the ends of a slice": (9, [node("Slice", "x", axes=[1, 3], starts=[1, 0], ends=[3, 4])]),
    "a dropout has a ratio": (9, [node("Dropout", "x", ratio=0.4)]),
    "padding is an attribute": (9, [node("Pad", "x", pads=[0, 0, 1, 1, 0, 0, 2, 0])]),
    "corners were resized, not middles": (10, [node("Resize", "x", "scales", mode="linear")]),
    "and before that they were sampled up": (9, [node("Upsample", "x", "scales", mode="nearest")]),
    "a weight multiplies": (9, [node("MatMul", "x", "wide")]),
}


@pytest.mark.parametrize("case", OLD)
def test_an_old_model_computes_what_it_did(case: str, tmp_path: Path) -> None:
    """The frozen graph equals the untouched file in onnxruntime, and its nodes keep their names."""
    opset, nodes = OLD[case]
    drawn = np.random.default_rng(3)
    known = {
        "wide": drawn.standard_normal((5, 120)).astype(np.float32),
        "scales": np.array([1, 1, 2, 3], np.float32),
    }
    weights = {name: value for name, value in known.items() if name in nodes[0].input}
    model = saved(tmp_path / "old.onnx", opset, nodes, **weights)
    feeds = {"x": drawn.standard_normal(SHAPE).astype(np.float32)}
    wanted = run(tmp_path / "old.onnx", feeds)["y"]
    raise_opset(model)
    assert model.graph.opset_imports[""] == 18
    assert worst(run(freeze(model, 2), feeds)["y"], wanted) <= 1e-6
    assert nodes[0].name in [found.name for found in model.graph]


def test_weights_stay_in_their_file(tmp_path: Path) -> None:
    """A weight is the same mapped tensor afterwards, and no input of the model."""
    weight = np.ones((5, 120), np.float32)
    model = saved(tmp_path / "old.onnx", 9, [node("MatMul", "x", "wide")], wide=weight)
    before = model.graph.initializers["wide"].const_value
    raise_opset(model)
    assert model.graph.initializers["wide"].const_value is before
    assert isinstance(before, ir.ExternalTensor)
    assert [value.name for value in model.graph.inputs] == ["x"]


def test_a_new_model_is_left_alone(tmp_path: Path) -> None:
    """From opset 18 on nothing is done here."""
    model = saved(tmp_path / "old.onnx", 18, [node("Clip", "x")])
    before = model.graph
    raise_opset(model)
    assert model.graph is before


def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    """An operator that its opset does not have: the sentence names opset and operator."""
    model = saved(tmp_path / "old.onnx", 9, [node("ThresholdedRelu", "x")])
    words = r"opset 18, found one of opset 9 that cannot \(No Adapter .* for ThresholdedRelu\)"
    with pytest.raises(UnsupportedModel, match=words):
        raise_opset(model)
