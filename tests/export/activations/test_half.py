"""Backward graphs whose forward half multiplies rounded activations: what they compute, store, and may not be."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from console.errors import UnsupportedModel, UsageError, VerificationError
from devices.plan import Board
from devices.speed import GENERIC
from export.activations.half import round_forward_half
from export.activations.oracle import check
from export.formats.rewrite import quantize_weights
from export.formats.stock import Stock
from export.gradient.backward import build_backward
from export.gradient.present import present
from export.half_checks import check_cosines, rounds_half
from export.order import order_just_in_time
from export.prepare import Wanted, prepare
from export.stage import Key, build_stage
from export.stage_checks import verify_stage
from export.write import write_graphs
from tests.export.graphs import Builder
from tests.export.runtime import run

Array = NDArray[Any]
ISAS = {"old": frozenset({"avx2"}), "new": frozenset({"avx2", "avx_vnni"}), "arm": frozenset({"dotprod"})}
IN, WIDE = 64, 96
RUNS = """
import sys, numpy as np, onnxruntime as ort
fed = dict(np.load(sys.argv[1] + ".npz"))
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
options.intra_op_num_threads, options.log_severity_level = 1, 3
options.add_session_config_entry("session.disable_prepacking", "1")
found = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"]).run(None, fed)
np.savez(sys.argv[1] + ".found.npz", *found)
print(ort.__version__)
"""


def backward_of(quant: str = "int8") -> tuple[ir.Model, dict[str, Array]]:
    """y = (tanh(x W1) * x W2) W3 and back to x, with weights in a format; the weights, x, and what comes in."""
    b = Builder(3)
    x = b.input("x", [4, 6, IN])
    wide: list[int | str] = [4, 6, WIDE]
    gate = b.op("Tanh", b.op("MatMul", x, b.weight("w1", IN, WIDE), shape=wide, name="a"), shape=wide, name="gate")
    h = b.op("Mul", gate, b.op("MatMul", x, b.weight("w2", IN, WIDE), shape=wide, name="b"), shape=wide, name="h")
    made = b.model(y=b.op("MatMul", h, b.weight("w3", WIDE, IN), shape=[4, 6, IN], name="y"))
    values = {name: present(made.graph.initializers[name].const_value).numpy() for name in ("w1", "w2", "w3")}
    rng = np.random.default_rng(4)
    values |= {name: rng.normal(size=(4, 6, IN)).astype(np.float32) for name in ("x", "grad.y")}
    model = build_backward(made, wanted=["x"])
    quantize_weights(model, quant, Stock(), backward=True)
    order_just_in_time(model)
    return model, values


def rounded(x: Array) -> Array:
    """x as DynamicQuantizeLinear rounds it, by the operator's specification, in float64 from float32 steps."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float64(np.float32((np.float32(high) - np.float32(low)) / np.float32(255)))
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return np.asarray((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale)


def eight_bits(w: Array) -> Array:
    """w as int8 by output channel stores it."""
    scale = (np.abs(w).max(axis=0) / np.float32(127)).astype(np.float32)
    return np.asarray(np.rint(w / scale) * scale.astype(np.float64))


def expected(values: dict[str, Array]) -> Array:
    """The gradient of x by hand: products of rounded activations forward, of floats back."""
    w1, w2, w3 = (eight_bits(values[name]) for name in ("w1", "w2", "w3"))
    x = rounded(values["x"])
    a, b = x @ w1, x @ w2
    dh = values["grad.y"].astype(np.float64) @ w3.T
    return np.asarray((dh * b * (1 - np.tanh(a) ** 2)) @ w1.T + (dh * np.tanh(a)) @ w2.T)


def test_the_forward_half_is_rounded_and_the_way_back_is_not() -> None:
    """The gradient is the one that numpy finds with rounded activations and float cotangents, to seven digits."""
    model, values = backward_of()
    feeds = {name: values[name] for name in ("x", "grad.y")}
    plain = run(model, feeds)["grad.x"]
    assert round_forward_half(model) == 2, "what is above the last product that matters is not in the graph"
    found, wanted = run(model, feeds)["grad.x"], expected(values)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert np.abs(plain - wanted).max() > 1e-3 * np.abs(wanted).max(), "rounding changes something"


def test_weights_are_stored_once() -> None:
    """Both halves read the same integers: rounding adds no initializer, and none is laid out anew."""
    model, _ = backward_of()
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    round_forward_half(model)
    assert all(before[name] is value.const_value for name, value in model.graph.initializers.items())
    readers = {use.node.op_type for use in model.graph.initializers["w1.q"].uses()}
    assert readers == {"Transpose", "DequantizeLinear"}


def test_products_of_one_input_round_it_once() -> None:
    """x feeds two products and is rounded by one node, which stands before both."""
    model, _ = backward_of()
    round_forward_half(model)
    types = [node.op_type for node in model.graph]
    assert types.count("DynamicQuantizeLinear") == 1
    assert types.index("DynamicQuantizeLinear") < types.index("MatMulIntegerToFloat")
    assert types.count("MatMulIntegerToFloat") == 2


def test_every_product_of_integers_is_judged() -> None:
    """The oracle of integer graphs finds the weight behind its Transpose, and a wrong scale of it."""
    model, values = backward_of()
    round_forward_half(model)
    feeds = {name: values[name] for name in ("x", "grad.y")}
    assert check(model, feeds) < 0.01
    product = next(node for node in model.graph if node.op_type == "MatMulIntegerToFloat")
    moved = ir.val("moved", const_value=ir.tensor(np.ones(WIDE, np.int8), name="moved"))
    model.graph.register_initializer(moved)
    product.replace_input_with(5, moved)
    broken = run(model, feeds)["grad.x"]
    assert np.abs(broken - expected(values)).max() > 1e-3, "a zero point that the weight was not stored with"


def test_the_oldest_runtime_computes_the_same(tmp_path: Path, floor_python: Path) -> None:
    """onnxruntime 1.23 runs the graph as it is written and finds what numpy finds."""
    model, values = backward_of()
    round_forward_half(model)
    write_graphs({"half": model}, tmp_path, "half.bin")
    fed: dict[str, Any] = {name: values[name] for name in ("x", "grad.y")}
    np.savez(tmp_path / "half.onnx.npz", **fed)
    command = [str(floor_python), "-c", RUNS, str(tmp_path / "half.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("1.23.")
    with np.load(tmp_path / "half.onnx.found.npz") as file:
        found, wanted = file["arr_0"], expected(values)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_weights_in_other_formats_stay_float() -> None:
    """Four bits and float32 have nothing that could be multiplied with integers."""
    for quant in ("fp32", "int4", "int8-blocks"):
        assert round_forward_half(backward_of(quant)[0]) == 0


def test_boards_whose_products_saturate_are_refused_by_name() -> None:
    """AVX2 without VNNI cuts large sums off; Arm and VNNI do not, and nobody who only serves is asked."""
    old, new, arm = (Board(name, 1 << 30, cpu=replace(GENERIC, isa=isa)) for name, isa in ISAS.items())
    assert rounds_half("int8", [new, arm])
    assert not rounds_half("float32", [old])
    assert not rounds_half("int8", [Board("serves", 1 << 30, "serve")])
    with pytest.raises(UsageError, match=r"found old, whose AVX2 without VNNI"):
        rounds_half("int8", [new, old])


def test_gradients_that_point_elsewhere_are_refused() -> None:
    """A cosine below 0.98 ends the export and is named; the worst single input is told beside the groups."""
    exact = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 0.1])}
    near = {"a": np.array([1.0, 0.0]), "b": np.array([0.1, 0.1])}
    found = check_cosines(near, exact, {"segment0": ["a", "b"]})
    assert found["segment0"] == pytest.approx(1.01 / np.sqrt(1.02 * 1.01))
    assert found["least"] == pytest.approx(np.sqrt(0.5))
    far = {"a": np.array([1.0, 0.3]), "b": np.array([0.0, 0.1])}
    with pytest.raises(VerificationError, match=r"gradients of segment0 with a cosine of at least 0.98.* found 0.95"):
        check_cosines(far, exact, {"segment0": ["a", "b"]})


@pytest.mark.heavy
def test_an_export_rounds_backward_graphs_only_and_says_so(bert_folder: Path, tmp_path: Path) -> None:
    """A tiny encoder in two segments: forward graphs stay float, gradients are judged, and fp32 weights are refused."""
    wanted = Wanted(str(bert_folder), "feature-extraction", 3, 8, train_activations="int8")
    prepared = prepare(wanted, ("int8", "fp32"), ("train",), tmp_path / "source")
    legal = prepared.cost(2, "train").positions
    positions = (legal[len(legal) // 2],)
    stage = build_stage(prepared, Key("train", "int8", 2, positions, half=True), tmp_path / "stage")
    verify_stage(prepared, stage)
    cosines = stage.checks["half_cosine"]
    assert all(0.98 <= cosine <= 1 for name, cosine in cosines.items() if name != "least")
    assert {"segment0", "segment1", "the head in segment1", "least"} == set(cosines)
    assert 0 < stage.checks["half_steps"] < 0.5
    for piece in stage.pieces:
        kinds = {kind: {node.op_type for node in model.graph} for kind, model in piece.shipped.items()}
        assert "MatMulIntegerToFloat" in kinds["backward"]
        assert "MatMulIntegerToFloat" not in kinds["forward"] | kinds["serve"]
    with pytest.raises(UnsupportedModel, match="expected matrices in int8 in a backward graph"):
        build_stage(prepared, Key("train", "fp32", 2, (), half=True), tmp_path / "floats")
