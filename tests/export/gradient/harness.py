"""Graphs from text, gradients by central differences, and the two ways in which onnxruntime runs a graph."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort

from export.gradient.backward import build_backward
from tests.export.oracle import Oracle

Array = npt.NDArray[Any]
Feeds = dict[str, Array]


def parse(text: str, dtype: str = "double", opset: int = 20) -> ir.Model:
    """A model from ONNX text in which the type `T` means `dtype`."""
    body = re.sub(r"\bT\b", dtype, text)
    header = f'<ir_version: 9, opset_import: ["": {opset}, "com.microsoft": 1]> segment '
    return ir.from_proto(onnx.parser.parse_model(header + body))


def draw(model: ir.Model, seed: int = 7) -> Feeds:
    """Values for all inputs of fixed shape: normal; positive for names with `p`; booleans for bool inputs."""
    rng = np.random.default_rng(seed)
    feeds: Feeds = {}
    for value in model.graph.inputs:
        assert value.name is not None
        assert value.shape is not None
        assert value.dtype is not None
        shape = value.shape.numpy()
        if value.dtype == ir.DataType.BOOL:
            feeds[value.name] = rng.random(shape) < 0.5
            continue
        numbers = rng.uniform(0.5, 2.0, shape) if value.name.startswith("p") else rng.normal(size=shape)
        feeds[value.name] = np.asarray(numbers, value.dtype.numpy())
    return feeds


def central_differences(function: Callable[[Feeds], float], feeds: Feeds, name: str, step: float = 1e-5) -> Array:
    """The gradient of `function` with respect to `feeds[name]`, entry by entry, in float64."""
    gradient = np.zeros(feeds[name].shape)
    for index in np.ndindex(*gradient.shape):
        values = []
        for sign in (1.0, -1.0):
            moved = feeds[name].copy()
            moved[index] += sign * step
            values.append(function({**feeds, name: moved}))
        gradient[index] = (values[0] - values[1]) / (2.0 * step)
    return gradient


def assert_gradients(model: ir.Model, feeds: Feeds, wanted: Sequence[str], tolerance: float = 1e-7) -> None:
    """The backward graph of `model` agrees with central differences of `sum(seed * output)`, all in float64."""
    backward = Oracle(build_backward(model, wanted=wanted))
    forward = Oracle(model)
    rng = np.random.default_rng(11)
    seeds = {name: rng.normal(size=value.shape) for name, value in forward(feeds).items()}
    incoming = {f"grad.{name}": seed for name, seed in seeds.items()}

    def weighted(at: Feeds) -> float:
        return sum(float(np.sum(seeds[name] * value)) for name, value in forward(at).items())

    found = backward({**feeds, **incoming})
    for name in wanted:
        expected = central_differences(weighted, feeds, name)
        assert found[f"grad.{name}"].shape == expected.shape
        scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
        np.testing.assert_allclose(found[f"grad.{name}"], expected, rtol=0.0, atol=tolerance * scale, err_msg=name)


def session(model: ir.Model, *, as_written: bool) -> ort.InferenceSession:
    """A session that runs the file as it stands, in file order, or one with onnxruntime's own defaults."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if as_written:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        options.enable_mem_pattern = False
    return ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(running: ort.InferenceSession, feeds: Mapping[str, Array]) -> Feeds:
    """The outputs by name; feeds that the graph has no input for are left out."""
    known = {value.name for value in (*running.get_inputs(), *running.get_overridable_initializers())}
    names = [value.name for value in running.get_outputs()]
    given = {name: array for name, array in feeds.items() if name in known}
    return dict(zip(names, running.run(names, given), strict=True))


def assert_runtime_agrees(model: ir.Model, feeds: Feeds, tolerance: float = 2e-6) -> None:
    """onnxruntime, at no optimization and at its defaults, computes what numpy computes for the float32 `model`."""
    expected = Oracle(model)(feeds)
    for as_written in (True, False):
        found = run(session(model, as_written=as_written), feeds)
        for name, array in expected.items():
            scale = max(1.0, float(np.abs(array).max(initial=0.0)))
            np.testing.assert_allclose(found[name], array, rtol=0.0, atol=tolerance * scale, err_msg=name)
