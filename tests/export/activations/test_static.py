from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from console.errors import BadData
from export.activations.calibrate import runs_of
from export.activations.dynamic import dynamic
from export.activations.methods import METHODS, Method
from export.activations.oracle import check
from export.activations.static import static
from export.activations.tools import Run
from export.gradient.dims import dims_of, dtype_of
from tests.conftest import ROOT
from tests.export.activations.nets import BATCH, CNN_WEIGHTS, cnn, drawn, mlp, numbers, operators, pictures, work
from tests.export.graphs import Builder
from tests.export.runtime import run, worst

FLOOR = ROOT / ".venv-floor" / "bin" / "python"
RUNS = """
import sys, numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
with np.load(sys.argv[2]) as feeds:
    y = session.run(None, dict(feeds))[0]
np.save(sys.argv[3], y)
print(ort.__version__)
"""


def calibrated(model: ir.Model, items: int = 16) -> list[Run]:
    """Runs for `cnn`."""
    return runs_of(model, pictures(), list(range(items)))


@pytest.mark.parametrize("method", METHODS)
def test_a_convolutional_net_computes_nearly_the_same_in_integers(method: Method, tmp_path: Path) -> None:
    """Every weight is int8 by channel, every product one of integers, for each way of calibrating."""
    model, feeds = cnn(), {"x": pictures(seed=9)["x"][:BATCH]}
    made, reports = static(model, CNN_WEIGHTS, calibrated(model), method, work(tmp_path))
    assert [report.name for report in reports] == ["c1.w", "c2.w", "c3.w", "fc.w.t"]
    assert all(report.format == "int8-static" and not report.reason for report in reports)
    assert all(numbers(made, f"{report.name}_quantized").dtype == np.int8 for report in reports)
    assert [numbers(made, f"{report.name}_scale").size for report in reports] == [8, 8, 16, 5]
    assert sum(report.bytes_after for report in reports) < 0.35 * sum(report.bytes_before for report in reports)
    assert 0 < worst(run(made, feeds)["y"], run(model, feeds)["y"]) < 0.06
    assert check(made, feeds) < 0.01
    assert list((tmp_path / "work").iterdir()) == []


def test_between_convolutions_everything_is_uint8(tmp_path: Path) -> None:
    """A Relu is the end of a range, pooling and flattening move uint8; a bias is added by the product itself."""
    model = cnn()
    made, _ = static(model, CNN_WEIGHTS, calibrated(model), "minmax", work(tmp_path))
    assert operators(made) == [
        *("QuantizeLinear", "QLinearConv", "MaxPool", "DequantizeLinear", "QLinearConv", "DequantizeLinear", "Add"),
        *("Relu", "QuantizeLinear", "QLinearConv", "Flatten", "MatMulIntegerToFloat"),
    ]


def test_ranges_are_what_was_seen(tmp_path: Path) -> None:
    """By "minmax" the scale of an input is its range over the items, with zero in it, over 255."""
    model = cnn()
    made, _ = static(model, CNN_WEIGHTS, calibrated(model), "minmax", work(tmp_path))
    seen = pictures()["x"][:16]
    assert numbers(made, "x_scale") == pytest.approx((seen.max() - seen.min()) / 255, rel=1e-6)


def test_methods_differ_where_there_are_outliers(tmp_path: Path) -> None:
    """With one item a hundred times as large the percentile leaves it out, and "entropy" looks for a range too."""
    x = drawn(2**14, 12)
    x[7, 3] = 400.0
    model, folder = mlp("N"), work(tmp_path)
    scales = {}
    for method in METHODS:
        made, _ = static(model, ["a.w"], [{"x": x}], method, folder)
        scales[method] = float(numbers(made, "x_scale"))
    assert scales["minmax"] == pytest.approx((400 - x.min()) / 255, rel=1e-6)
    assert scales["percentile"] < 0.2 * scales["minmax"]
    assert scales["entropy"] < scales["minmax"]


def test_who_reads_floats_reads_them_unrounded(tmp_path: Path) -> None:
    """The tool rounds a tensor for all of its readers; here the sum beside the product gets what it got before."""
    b = Builder(8)
    x = b.input("x", [BATCH, 16])
    h = b.op("Tanh", x, shape=[BATCH, 16], name="h")
    model = b.model(
        y=b.op("MatMul", h, b.weight("w", 16, 16), shape=[BATCH, 16], name="product"),
        beside=b.op("Add", h, x, shape=[BATCH, 16], name="sum"),
    )
    made, _ = static(model, ["w"], [{"x": drawn(BATCH, 16)}], "minmax", work(tmp_path))
    feeds = {"x": drawn(BATCH, 16, seed=1)}
    assert (run(made, feeds)["beside"] == run(model, feeds)["beside"]).all()
    assert "DequantizeLinear" not in operators(made)


@pytest.mark.parametrize("settings", [{"auto_pad": "SAME_UPPER"}, {"pads": [2, 1, 1, 2], "dilations": [2, 2]}])
def test_windows_of_all_kinds(settings: dict[str, object], tmp_path: Path) -> None:
    """Padding that the runtime works out, uneven pads and dilations: rounded, and judged, as they are."""
    model, feeds = cnn(**settings), {"x": pictures(seed=9)["x"][:BATCH]}
    made, _ = static(model, CNN_WEIGHTS, calibrated(model), "minmax", work(tmp_path))
    assert check(made, feeds) < 0.01
    assert worst(run(made, feeds)["y"], run(model, feeds)["y"]) < 0.06


def test_seven_bits_where_processors_saturate(tmp_path: Path) -> None:
    """With `reduce` no weight is beyond 64, of products and of convolutions, and every product is exact."""
    model = cnn()
    made, reports = static(model, CNN_WEIGHTS, calibrated(model), "minmax", work(tmp_path), reduce=True)
    most = [int(np.abs(numbers(made, f"{report.name}_quantized").astype(int)).max()) for report in reports]
    assert most == [64, 64, 64, 64]
    assert check(made, {"x": pictures(seed=9)["x"][:BATCH]}) < 0.01


def test_twice_the_same(tmp_path: Path) -> None:
    """Two calls write the same bytes, and two runs compute the same bits."""
    model, folder, feeds = cnn(), work(tmp_path), {"x": pictures(seed=9)["x"][:BATCH]}
    first, second = (static(model, CNN_WEIGHTS, calibrated(model), "percentile", folder)[0] for _ in range(2))
    assert ir.to_proto(first).SerializeToString() == ir.to_proto(second).SerializeToString()
    assert run(first, feeds)["y"].tobytes() == run(second, feeds)["y"].tobytes()


@pytest.mark.heavy
@pytest.mark.parametrize("way", ["static", "dynamic"])
def test_two_runtimes_compute_the_same_bits(way: str, tmp_path: Path) -> None:
    """The oldest supported runtime computes what the installed one computes, bit by bit, on this processor."""
    if not FLOOR.exists():
        pytest.skip("the oldest supported runtime is not installed beside this one")
    model, feeds, folder = cnn(), {"x": pictures(seed=9)["x"][:BATCH]}, work(tmp_path)
    if way == "static":
        made, _ = static(model, CNN_WEIGHTS, calibrated(model), "minmax", folder)
    else:
        made, _ = dynamic(model, CNN_WEIGHTS, folder)
    ir.save(made, tmp_path / "made.onnx")
    np.savez(tmp_path / "feeds.npz", x=feeds["x"])
    command = [str(FLOOR), "-c", RUNS, *(str(tmp_path / name) for name in ("made.onnx", "feeds.npz", "y.npy"))]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert np.load(tmp_path / "y.npy").tobytes() == run(made, feeds)["y"].tobytes()


def test_every_value_has_a_shape(tmp_path: Path) -> None:
    """What is new has a type and a shape, from which time and memory are counted."""
    model = cnn()
    made, _ = static(model, CNN_WEIGHTS, calibrated(model), "minmax", work(tmp_path))
    for node in made.graph:
        for value in node.outputs:
            dims_of(value)
            dtype_of(value)


def test_an_activation_that_is_always_zero(tmp_path: Path) -> None:
    """A range of no width has a scale that is no NaN."""
    b = Builder(8)
    x = b.input("x", [BATCH, 16])
    h = b.op("Relu", x, shape=[BATCH, 16], name="h")
    model = b.model(y=b.op("MatMul", h, b.weight("w", 16, 16), shape=[BATCH, 16], name="product"))
    runs = [{"x": -np.abs(drawn(BATCH, 16))}]
    for method in METHODS:
        folder = tmp_path / method
        folder.mkdir()
        made, _ = static(model, ["w"], runs, method, folder)
        assert (run(made, runs[0])["y"] == 0).all()


def test_bad_runs_are_refused_with_all_that_is_wrong(tmp_path: Path) -> None:
    """No runs; names, shapes, types and NaN that do not fit: one sentence, and no file."""
    model, folder = cnn(), work(tmp_path)
    with pytest.raises(BadData, match="expected at least one run to calibrate with, found none"):
        static(model, CNN_WEIGHTS, [], "minmax", folder)
    broken = pictures()["x"][:BATCH].copy()
    broken[0, 0, 0, 0] = np.nan
    bad: list[Run] = [
        {"y": np.zeros(3)},
        {"x": np.zeros((4, 3, 8, 9), np.float32)},
        {"x": np.zeros((4, 3, 8, 8))},
        {"x": broken},
    ]
    with pytest.raises(BadData) as refusal:
        static(model, CNN_WEIGHTS, bad, "minmax", folder)
    for part in (
        "no x",
        "'y', which the graph does not read",
        "x of the shape [4, 3, 8, 9], where it is [4, 3, 8, 8]",
        "x of the type float64, where it is float32",
        "NaN or infinity in x",
    ):
        assert part in str(refusal.value)
    assert list(folder.iterdir()) == []
