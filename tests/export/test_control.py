"""Models inside If, Loop and Scan: their weights count and are written once, and what is refused names the node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from console.errors import DoesNotFit, EdgequiltError, UnsupportedModel
from devices.memory import MIB, WORKER_BASE_BYTES, Need, allowed_miss
from export.cli import export
from export.control import lift_weights
from export.fold import freeze

WIDTH = 1024  # 4 MiB of float32 per weight
FIXED = Need(0, 0).total
NODES = {
    "If": "If 'choose' (8.0 MiB of weights)",
    "Loop": "Loop 'again' (4.0 MiB of weights)",
    "Scan": "Scan 'walk' (4.0 MiB of weights)",
}


def weight(name: str, seed: int, width: int = WIDTH) -> onnx.TensorProto:
    """A square matrix."""
    drawn = np.random.default_rng(seed).standard_normal((width, width)) / np.sqrt(width)
    return numpy_helper.from_array(drawn.astype(np.float32), name)


def value(name: str, *shape: int | str, of: int = TensorProto.FLOAT) -> Any:
    """A typed value."""
    return helper.make_tensor_value_info(name, of, shape)


def in_if(width: int = WIDTH) -> onnx.GraphProto:
    """x A where the sum of x is positive, else x B; weights belong to the branches."""
    branches = []
    for seed, name in enumerate("ab"):
        node = helper.make_node("MatMul", ["x", "w"], [f"{name}.y"], name=f"{name}.product")
        # both are called w: each branch is a scope of its own
        branches.append(
            helper.make_graph([node], name, [], [value(f"{name}.y", "batch", width)], [weight("w", seed, width)])
        )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], name="choose", then_branch=branches[0], else_branch=branches[1]),
    ]
    zero = numpy_helper.from_array(np.float32(0), "zero")
    return helper.make_graph(nodes, "g", [value("x", "batch", width)], [value("y", "batch", width)], [zero])


def in_loop(width: int = WIDTH) -> onnx.GraphProto:
    """Three times h = tanh(h W); the weight is a Constant of the body."""
    body = helper.make_graph(
        [
            helper.make_node("Constant", [], ["w"], value=weight("w", 2, width)),
            helper.make_node("MatMul", ["h", "w"], ["product"]),
            helper.make_node("Tanh", ["product"], ["turned"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [value("i", of=TensorProto.INT64), value("go", of=TensorProto.BOOL), value("h", "batch", width)],
        [value("on", of=TensorProto.BOOL), value("turned", "batch", width)],
    )
    loop = helper.make_node("Loop", ["trips", "yes", "x"], ["y"], name="again", body=body)
    fixed = [numpy_helper.from_array(np.array(3), "trips"), numpy_helper.from_array(np.array(True), "yes")]
    return helper.make_graph([loop], "g", [value("x", "batch", width)], [value("y", "batch", width)], fixed)


def in_scan(width: int = WIDTH) -> onnx.GraphProto:
    """h = tanh(x W + h) over five steps; the weight is the graph's own."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["step", "w"], ["product"]),
            helper.make_node("Add", ["product", "h"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["after"]),
            helper.make_node("Identity", ["after"], ["out"]),
        ],
        "body",
        [value("h", "batch", width), value("step", "batch", width)],
        [value("after", "batch", width), value("out", "batch", width)],
    )
    scan = helper.make_node("Scan", ["h0", "x"], ["last", "y"], name="walk", body=body, num_scan_inputs=1)
    inputs = [value("x", 5, "batch", width), value("h0", "batch", width)]
    return helper.make_graph([scan], "g", inputs, [value("y", 5, "batch", width)], [weight("w", 2, width)])


BUILT = {"If": in_if, "Loop": in_loop, "Scan": in_scan}


def by_numpy(kind: str, fed: dict[str, np.ndarray]) -> np.ndarray:
    """What the model computes, in float64."""
    a, b, w = (numpy_helper.to_array(weight("w", seed)).astype(np.float64) for seed in range(3))
    x = fed["x"].astype(np.float64)
    if kind == "If":
        return x @ (a if x.sum() > 0 else b)
    if kind == "Loop":
        for _ in range(3):
            x = np.tanh(x @ w)
        return x
    h, out = fed["h0"].astype(np.float64), []
    for step in x:
        h = np.tanh(step @ w + h)
        out.append(h)
    return np.stack(out)


@pytest.fixture(scope="module", params=BUILT)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Which node the net is inside of, and its file."""
    path = tmp_path_factory.mktemp(request.param) / "net.onnx"
    made = helper.make_model(BUILT[request.param](), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, path)
    return request.param, path


def test_it_is_exported_where_it_fits(
    model: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that only serves needs no layers for adapters: it computes the same, and its weights are foretold."""
    kind, path = model
    assert export([str(path), "--budget", "300MiB", "--json", "--out", str(tmp_path)]) == 0
    (made,) = json.loads(capsys.readouterr().out)
    assert (made["segments"], made["slots"]) == (1, 0)
    measured = made["measured_bytes"]
    assert abs(measured - made["predicted_bytes"]) <= allowed_miss(measured, WORKER_BASE_BYTES)
    graph = Path(made["folder"]) / "segment0.forward.onnx"
    assert made["file_bytes"] < (2 if kind == "If" else 1) * 4 * MIB + graph.stat().st_size + MIB
    session = ort.InferenceSession(str(graph))
    for seed in range(3):
        generator = np.random.default_rng(seed)
        fed = {v.name: generator.standard_normal(v.shape).astype(np.float32) for v in session.get_inputs()}
        np.testing.assert_allclose(session.run(["y"], fed)[0], by_numpy(kind, fed), atol=1e-4)


def test_where_it_does_not_fit_the_node_is_named(model: tuple[str, Path], tmp_path: Path) -> None:
    """With its operator and what it holds; alone and, where there is no cut at all, across two boards."""
    kind, path = model
    line = [str(path), "--out", str(tmp_path / "out")]
    with pytest.raises(DoesNotFit) as caught:
        export([*line, "--budget", str(FIXED + 3 * MIB)])
    held = 8 if kind == "If" else 4
    assert f"beside the runtime {held}.0 MiB of weights" in str(caught.value)
    assert str(caught.value).endswith(f"; it has {NODES[kind]}, which cannot be cut inside")
    if kind != "If":
        with pytest.raises(DoesNotFit, match="found 1 piece ") as caught:
            export([*line, "--across", "raspberry-pi-zero-2w,raspberry-pi-4-2gb"])
        assert str(caught.value).endswith(f"; it has {NODES[kind]}, which cannot be cut inside")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [["--labels", "LABELS"], ["--adapter-targets", "all-linear"]])
def test_where_layers_are_needed_the_node_is_named(model: tuple[str, Path], more: list[str], tmp_path: Path) -> None:
    """Who wants adapters, by classes or by naming targets, is told inside what the layers are.

    The Scan has its steps before its micro-batch: no head goes on that, which is said first.
    """
    kind, path = model
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    line = [str(path), "--budget", "300MiB", "--out", str(tmp_path / "out")]
    with pytest.raises(EdgequiltError) as caught:
        export([*line, *(str(tmp_path / "labels.txt") if word == "LABELS" else word for word in more)])
    assert isinstance(caught.value, UnsupportedModel)
    said = f"there are none outside {NODES[kind]}, inside which no layer takes an adapter"
    if kind == "Scan" and "LABELS" in more:
        said = "export the model with the micro-batch as first dimension, or say --features"
    assert said in str(caught.value)


def test_weights_of_one_name_are_told_apart() -> None:
    """Those of both branches move out under names of their own; small ones stay where shapes are inferred from them."""
    graph = ir.from_proto(helper.make_model(in_if(64), opset_imports=[helper.make_opsetid("", 17)])).graph
    branches = [graph[-1].attributes[f"{name}_branch"].as_graph() for name in ("then", "else")]
    for branch in branches:
        branch.register_initializer(ir.val("axes", const_value=ir.tensor([0], name="axes")))
    assert lift_weights(graph) == 2
    assert sorted(graph.initializers) == ["w", "w.1", "zero"]
    assert [list(branch.initializers) for branch in branches] == [["axes"], ["axes"]]
    for seed, branch in enumerate(branches):
        read = branch[0].inputs[1]
        assert read is not None
        tensor = graph.initializers[str(read.name)].const_value
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), numpy_helper.to_array(weight("w", seed, 64)))


@pytest.mark.parametrize("grows", [False, True])
def test_what_a_loop_carries_has_a_shape_where_the_body_keeps_it(grows: bool) -> None:
    """A batch that has a name in the body is the model's; what grows from turn to turn is refused, not believed."""
    proto = in_loop(64)
    if grows:
        body = proto.node[0].attribute[0].g
        body.node.append(helper.make_node("Concat", ["turned", "turned"], ["twice"], axis=0))
        body.output[1].CopyFrom(value("twice", "more", 64))
        body.input[2].CopyFrom(value("h", "rows", 64))
    given = ir.from_proto(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    if grows:
        with pytest.raises(UnsupportedModel):
            freeze(given, 4)
    else:
        assert list(freeze(given, 4).graph.outputs[0].shape or ()) == [4, 64]
