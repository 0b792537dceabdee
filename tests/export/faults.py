"""What a hostile file does to a whole one: changes of `tests.export.sources.files.perceptron`, a fault each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.export.sources.files import FLOAT, WIDE

Change = Callable[[onnx.ModelProto], object]


def moved(key: str, value: str, tensor: int = 0) -> Change:
    """Change one entry of a tensor's external data."""

    def change(model: onnx.ModelProto) -> None:
        entry = next(e for e in model.graph.initializer[tensor].external_data if e.key == key)
        entry.value = value

    return change


def dims(*sizes: int) -> Change:
    """Give the first weight another shape."""

    def change(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(sizes)

    return change


def node(**fields: str) -> Change:
    """Change fields of the second node, a Relu."""

    def change(model: onnx.ModelProto) -> None:
        for name, value in fields.items():
            setattr(model.graph.node[1], name, value)

    return change


def reads(name: str, position: int = 1) -> Change:
    """Let a node read something else."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[position].input[0] = name

    return change


def makes(name: str) -> Change:
    """Let the second node make something else."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[1].output[0] = name

    return change


def nested(depth: int) -> Change:
    """A condition in a condition in a condition."""

    def body(left: int) -> onnx.GraphProto:
        nodes = [helper.make_node("Identity", ["active"], [f"o{left}"])]
        if left:
            nodes = [helper.make_node("If", ["yes"], [f"o{left}"], then_branch=body(left - 1), else_branch=leaf(left))]
        return helper.make_graph(nodes, f"g{left}", [], [helper.make_tensor_value_info(f"o{left}", FLOAT, None)])

    def leaf(left: int) -> onnx.GraphProto:
        made = helper.make_tensor_value_info(f"e{left}", FLOAT, None)
        return helper.make_graph([helper.make_node("Identity", ["active"], [f"e{left}"])], "leaf", [], [made])

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array(1, np.bool_), "yes"))
        branches = {"then_branch": body(depth), "else_branch": leaf(99)}
        model.graph.node.append(helper.make_node("If", ["yes"], ["deep"], **branches))
        model.graph.output.append(helper.make_tensor_value_info("deep", FLOAT, None))

    return change


def function(model: onnx.ModelProto, name: str, body: list[onnx.NodeProto]) -> None:
    """Add a function a -> b."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    model.functions.append(helper.make_function("mine", name, ["a"], ["b"], body, opsets))


def calls_itself(model: onnx.ModelProto) -> None:
    """Two functions that call each other."""
    function(model, "Ping", [helper.make_node("Pong", ["a"], ["b"], domain="mine")])
    function(model, "Pong", [helper.make_node("Ping", ["a"], ["b"], domain="mine")])
    uses(model, "Ping")


def doubles(model: onnx.ModelProto) -> None:
    """Forty functions, each of which calls the one before twice: 2^40 nodes."""
    function(model, "F0", [helper.make_node("Neg", ["a"], ["b"])])
    for i in range(1, 41):
        inner = f"F{i - 1}"
        steps = [
            helper.make_node(inner, ["a"], ["m"], domain="mine"),
            helper.make_node(inner, ["m"], ["b"], domain="mine"),
        ]
        function(model, f"F{i}", steps)
    uses(model, "F40")


def uses(model: onnx.ModelProto, name: str) -> None:
    """Call a function."""
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = name, "mine"


def attribute(**values: object) -> Change:
    """Give the first node, a Gemm, more attributes."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].attribute.extend(helper.make_attribute(name, value) for name, value in values.items())

    return change


def opset(version: int) -> Change:
    """Import another version of the operators."""

    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


def input_type(kind: str) -> Change:
    """Give the input a type that is no tensor of numbers."""

    def change(model: onnx.ModelProto) -> None:
        given = model.graph.input[0]
        if kind == "string":
            given.type.tensor_type.elem_type = onnx.TensorProto.STRING
            return
        tensor = helper.make_tensor_type_proto(FLOAT, ["N", WIDE])
        made = {
            "sequence": lambda: helper.make_sequence_type_proto(tensor),
            "optional": lambda: helper.make_optional_type_proto(tensor),
            "sparse": lambda: helper.make_sparse_tensor_type_proto(FLOAT, ["N", WIDE]),
        }[kind]()
        given.type.CopyFrom(made)

    return change
