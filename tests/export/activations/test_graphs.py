from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from console.errors import BadData, UnsupportedModel
from export.activations.calibrate import runs_of
from export.activations.given import refuse_none
from export.activations.graphs import SLOW, Activations
from export.activations.oracle import check
from export.activations.spare import lost
from export.build import build, reports_of
from export.formats.stock import Stock
from export.gradient.present import present
from tests.export.activations.nets import cnn, drawn, operators, pictures
from tests.export.graphs import BATCH, Builder, feeds, residual_mlp
from tests.export.runtime import run, worst

WIDTH = 40  # 1600 entries: large enough for formats


def given(count: int = 12) -> list[dict[str, np.ndarray]]:
    """Runs of the whole model."""
    return [{name: feeds(seed=seed, width=WIDTH)[name] for name in ("x", "bias")} for seed in range(count)]


@pytest.mark.parametrize("fmt", ["int8-dynamic", "int8-static"])
def test_only_the_graph_without_slots_rounds_activations(fmt: str, tmp_path: Path) -> None:
    """With slots weights are int8 and products float; the graph that is served without has products of integers."""
    model = residual_mlp(width=WIDTH)
    (piece,) = build(model, [], "train", fmt, Stock(), serve=True, activations=Activations(tmp_path, given()))
    assert operators(piece.shipped["serve"]).count("MatMulIntegerToFloat") == 3
    assert "MatMulIntegerToFloat" not in operators(piece.shipped["forward"]) + operators(piece.shipped["backward"])
    for kind, reason in (("forward", "activations stay float in a graph with slots; int8 instead"), ("backward", "")):
        assert {report.format for report in piece.reports[kind]} == {"int8"}
        assert all(reason in report.reason for report in piece.reports[kind])
    for report in piece.reports["serve"]:
        assert (report.format, report.reason) == (fmt, "beside int8 in the graph with slots")
        assert report.bytes_after < 0.6 * report.bytes_before
    fed = feeds(seed=77, width=WIDTH)
    assert 0 < worst(run(piece.shipped["serve"], fed)["features"], run(piece.exact["serve"], fed)["features"]) < 0.1
    assert check(piece.shipped["serve"], {name: fed[name] for name in ("x", "bias")}) < 0.01
    refuse_none([piece])
    assert list(tmp_path.iterdir()) == []


def test_segments_are_calibrated_on_what_reaches_them(tmp_path: Path) -> None:
    """Behind a cut the runs are what the float segments before it make of the runs that were given."""
    model = residual_mlp(slots=False, width=WIDTH)
    cut = next(i for i, node in enumerate(model.graph) if node.name == "/layer.1.base/MatMul")
    pieces = build(model, [cut], "serve", "int8-static", Stock(), activations=Activations(tmp_path, given()))
    fed = {name: feeds(seed=77, width=WIDTH)[name] for name in ("x", "bias")}
    whole = run(model, fed)
    for piece in pieces:
        assert (
            check(
                piece.shipped["forward"],
                {v.name: fed[str(v.name)] for v in piece.segment.model.graph.inputs if v.name in fed},
            )
            < 0.01
        )
        fed |= run(piece.shipped["forward"], fed)
    assert 0 < worst(fed["features"], whole["features"]) < 0.1


def test_a_kept_weight_keeps_its_format(tmp_path: Path) -> None:
    """Formats by weight: one is float, one int8 as it is stored, one is multiplied with integers."""
    model = residual_mlp(slots=False, width=WIDTH)
    formats = {"layer.0.weight": "fp32", "layer.1.weight": "int8", "layer.2.weight": "int8-dynamic"}
    pieces = build(model, [], "serve", formats, Stock(), activations=Activations(tmp_path))
    assert {report.name: report.format for report in reports_of(pieces)} == formats


def test_no_runs_and_no_layer_are_refused(tmp_path: Path) -> None:
    """Static ranges need runs; an export of which nothing is left but float is no quantized one."""
    model = residual_mlp(slots=False, width=WIDTH)
    with pytest.raises(BadData, match="expected at least one run to calibrate with"):
        build(model, [], "serve", "int8-static", Stock(), activations=Activations(tmp_path))
    pieces = build(residual_mlp(width=WIDTH), [], "serve", "int8-dynamic", Stock(), activations=Activations(tmp_path))
    with pytest.raises(UnsupportedModel, match="expected a graph without slots with a layer for int8-dynamic"):
        refuse_none(pieces)


def outlying(scale: float) -> ir.Model:
    """y = x W and z = Tanh(x) V, where one column of x is multiplied by `scale` before, and its row of W is zero."""
    b = Builder(9)
    factor = np.ones((1, WIDTH), np.float32)
    factor[0, 3] = scale
    x, w = b.input("x", [BATCH, WIDTH]), b.weight("w", WIDTH, WIDTH)
    rows = np.array(present(w.const_value).numpy())
    rows[3] = 0
    w.const_value, times = ir.tensor(rows, name="w"), b.weight("times", 1, WIDTH)
    times.const_value = ir.tensor(factor, name="times")
    wide = b.op("Mul", x, times, shape=[BATCH, WIDTH], name="wide")
    bent = b.op("Tanh", x, shape=[BATCH, WIDTH], name="bent")
    return b.model(
        y=b.op("MatMul", wide, w, shape=[BATCH, WIDTH], name="y"),
        z=b.op("MatMul", bent, b.weight("v", WIDTH, WIDTH), shape=[BATCH, WIDTH], name="z"),
    )


@pytest.mark.parametrize("fmt", ["int8-dynamic", "int8-static"])
def test_a_layer_whose_input_has_outliers_keeps_float_activations(fmt: str, tmp_path: Path) -> None:
    """Where one large number leaves the others no steps, the weight is int8 as stored, and the report says why."""
    runs = [{"x": drawn(BATCH, WIDTH, seed=seed)} for seed in range(4)]
    for scale, wanted in ((1.0, {"w": fmt, "v": fmt}), (100.0, {"w": "int8", "v": fmt})):
        pieces = build(outlying(scale), [], "serve", fmt, Stock(), activations=Activations(tmp_path, runs))
        reports = {report.name: report for report in reports_of(pieces) if report.name != "times"}
        assert {name: report.format for name, report in reports.items()} == wanted
    assert re.fullmatch(r"rounding its input loses \d+\.\d%; int8 instead", reports["w"].reason)
    exact, made = (run(model, runs[0]) for model in (outlying(100.0), pieces[0].shipped["forward"]))
    assert max(worst(made[name], exact[name]) for name in "yz") < 0.03


def test_what_rounding_costs_is_what_numpy_says(tmp_path: Path) -> None:
    """The loss of a layer is |(x' - x) W| / |x W|, with x' on the 256 steps of its range over all runs."""
    x = np.stack([drawn(BATCH, WIDTH, seed=seed) for seed in range(4)])
    bent = np.tanh(x.astype(np.float64))
    v = present(outlying(1.0).graph.initializers["v"].const_value).numpy().astype(np.float64)
    step = (bent.max() - bent.min()) / 255
    rounded = np.rint(bent / step) * step
    wanted = np.linalg.norm((rounded - bent) @ v) / np.linalg.norm(bent @ v)
    found = lost(outlying(1.0), ["v"], [{"x": part} for part in x], tmp_path, fixed=True)
    assert found["v"] == pytest.approx(wanted, rel=0.01)
    each = lost(outlying(1.0), ["v"], [{"x": part} for part in x], tmp_path, fixed=False)
    assert each["v"] < found["v"]


def test_a_filter_per_channel_has_no_dynamic_scales(tmp_path: Path) -> None:
    """It would be slower than in float; with static scales it is taken."""
    runs = runs_of(cnn(), pictures(8), list(range(8)))
    for fmt, reason in (("int8-dynamic", SLOW), ("int8-static", "")):
        pieces = build(cnn(), [], "serve", fmt, Stock(), activations=Activations(tmp_path, runs))
        assert next(report.reason for report in reports_of(pieces) if report.name == "c2.w") == reason
