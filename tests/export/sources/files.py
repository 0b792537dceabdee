"""Small ONNX files for the tests of the door, made by the onnx package alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.export.runtime import Array

FLOAT = onnx.TensorProto.FLOAT
WIDE, INNER = 24, 20  # both weights are above the size from which tensors stay on disk


def perceptron(
    *, opset: int = 18, first: str | int | None = "N", typed: bool = False, seed: int = 3
) -> onnx.ModelProto:
    """y = Relu(x W0 + b0) W1 with x [first, 24], W0 [24, 20], W1 [20, 24]; its weights are inside the file."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {
        "up.weight": rng.standard_normal((WIDE, INNER)).astype(np.float32) / 5,
        "up.bias": rng.standard_normal(INNER).astype(np.float32),
        "down.weight": rng.standard_normal((INNER, WIDE)).astype(np.float32) / 5,
    }
    nodes = [
        helper.make_node("Gemm", ["x", "up.weight", "up.bias"], ["up"], name="/up/Gemm"),
        helper.make_node("Relu", ["up"], ["active"], name="/Relu"),
        helper.make_node("MatMul", ["active", "down.weight"], ["y"], name="/down/MatMul"),
    ]
    tensors = [
        helper.make_tensor(name, FLOAT, value.shape, value.ravel().tolist())
        if typed
        else numpy_helper.from_array(value, name)
        for name, value in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("x", FLOAT, [first, WIDE])],
        [helper.make_tensor_value_info("y", FLOAT, [first, WIDE])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def accumulator() -> onnx.ModelProto:
    """A cell with state: h_next = Tanh(x + h), y = h_next W, over x [1, 24] and h [1, 24]."""
    rng = np.random.default_rng(4)
    nodes = [
        helper.make_node("Add", ["x", "h"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["h_next"]),
        helper.make_node("MatMul", ["h_next", "w"], ["y"]),
    ]
    infos = {name: helper.make_tensor_value_info(name, FLOAT, [1, WIDE]) for name in ("x", "h", "y", "h_next")}
    weight = numpy_helper.from_array(rng.standard_normal((WIDE, WIDE)).astype(np.float32), "w")
    graph = helper.make_graph(nodes, "accumulator", [infos["x"], infos["h"]], [infos["y"], infos["h_next"]], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def write(model: onnx.ModelProto, path: Path, *, external: bool = False) -> Path:
    """The file; its weights in `weights.bin` beside it where they are external."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if external:
        model = onnx.ModelProto.FromString(model.SerializeToString())  # saving changes it
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=512)
    else:
        path.write_bytes(model.SerializeToString())
    return path


def inputs(model: onnx.ModelProto, batch: int, seed: int = 0) -> dict[str, Array]:
    """Random input, `batch` where a size is symbolic."""
    rng = np.random.default_rng(seed)
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: rng.standard_normal([dim.dim_value or batch for dim in value.type.tensor_type.shape.dim]).astype(
            np.float32
        )
        for value in model.graph.input
        if value.name not in weights
    }


def branching() -> onnx.ModelProto:
    """y = Reshape(Transpose(x + 1)) W inside an If, beside constants that are folded: a graph in a graph."""
    rng = np.random.default_rng(6)

    def branch(name: str, kind: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node(kind, ["turned"], [f"{name}.t"]),
            helper.make_node("MatMul", [f"{name}.t", "w"], [f"{name}.y"]),
        ]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}.y", FLOAT, [2, WIDE])])

    nodes = [
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.array(1, np.float32))),
        helper.make_node("Add", ["x", "one"], ["more"]),
        helper.make_node("Transpose", ["more"], ["across"], perm=[1, 0]),
        helper.make_node("Shape", ["w"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["width"], axis=0),
        helper.make_node("Concat", ["two", "width"], ["target"], axis=0),
        helper.make_node("Reshape", ["across", "target"], ["turned"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch("a", "Tanh"), else_branch=branch("b", "Neg")),
    ]
    tensors = [
        numpy_helper.from_array(rng.standard_normal((WIDE, WIDE)).astype(np.float32), "w"),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        numpy_helper.from_array(np.array([2], np.int64), "two"),
        numpy_helper.from_array(np.array(1, np.bool_), "yes"),
    ]
    infos = [helper.make_tensor_value_info(name, FLOAT, [2, WIDE]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "branching", infos[:1], infos[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
