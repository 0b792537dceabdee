"""Graphs whose quantization scales can be moved: what they compute, in every format, under both runtimes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from console.errors import UsageError, VerificationError
from export import scale_checks
from export.chain import Chain, Graph
from export.formats.grid import Grid
from export.formats.rewrite import quantize_weights
from export.formats.stock import Stock
from export.prepare import Prepared, Wanted, prepare
from export.scale_checks import check_scales, drawn, ones
from export.scales import ENDS, moved, with_factors
from export.stage import Key, Stage, build_stage
from export.stage_feeds import checking_values
from export.write import write_graphs
from tests.export.quantized import Made, every_role

RUNS = """
import json, sys, numpy as np, onnxruntime as ort
worst = []
for path in sys.argv[1:]:
    with np.load(path + ".feeds.npz") as fed, np.load(path + ".wanted.npz") as kept:
        feeds, wanted = dict(fed), list(kept.values())
    for packed in ("0", "1"):
        for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC):
            options = ort.SessionOptions()
            options.graph_optimization_level = level
            options.intra_op_num_threads, options.log_severity_level = 1, 3
            options.add_session_config_entry("session.disable_prepacking", packed)
            found = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)
            worst.append(max(float(np.abs(f - w).max() / np.abs(w).max()) for f, w in zip(found, wanted, strict=True)))
print(json.dumps(worst))
"""
GRIDS = {"plain": Grid(), "small blocks, zero points": Grid(block=16, zero_points=True)}


def feeding(made: Made, fmt: str, grid: Grid, folder: Path, *, rows: bool) -> Path:
    """Every role of a weight in a format, with factors fed; beside the graph what restored weights give in float32."""
    made.graph.outputs.extend(every_role(made))
    exact = ir.Model(made.graph, ir_version=10)
    shipped = exact.clone()
    reports = quantize_weights(shipped, fmt, Stock(grid))
    found = with_factors(shipped, reports, grid, "segment0")
    assert found is not None
    generator = np.random.default_rng(5)
    factors = {}
    for one in found.scales:
        shape = (*one.shape[:1], *[1] * (len(one.shape) - 1)) if rows else one.shape
        factors[one.weight] = generator.uniform(0.5, 1.5, shape).astype(np.float32)
    folder.mkdir()
    write_graphs({"exact": moved(exact, shipped, reports, grid, factors)}, folder, "exact.bin")
    twin = Graph(folder / "exact.onnx")
    write_graphs({"graph": found.model}, folder, "graph.weights.bin")
    fed: dict[str, Any] = {**made.feeds, **{one.input: factors[one.weight] for one in found.scales}}
    path = folder / "graph.onnx"
    np.savez(f"{path}.feeds.npz", **fed)
    np.savez(f"{path}.wanted.npz", *twin.session.run(twin.outputs, twin.feeds(fed)))
    return path


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("which", ["installed", "floor"])
def test_moved_scales_are_those_of_restored_weights(
    which: str, grid: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Whatever reads a weight in whatever format, packed or not, optimized or not, F of scales or of rows: D F."""
    python = Path(sys.executable) if which == "installed" else request.getfixturevalue("floor_python")
    asked = [(fmt, rows) for fmt in ENDS for rows in (False, True)]
    paths = [feeding(Made(), fmt, GRIDS[grid], tmp_path / f"{fmt}{rows}", rows=rows) for fmt, rows in asked]
    done = subprocess.run([str(python), "-c", RUNS, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    worst = json.loads(done.stdout)
    assert len(worst) == 4 * len(asked)
    assert max(worst) <= 1e-5


def test_factors_take_no_bytes(tmp_path: Path) -> None:
    """Beside the forward graph, the graph with factors adds nothing to the weight file."""
    for fmt in ENDS:
        made = Made()
        made.graph.outputs.extend(every_role(made))
        shipped = ir.Model(made.graph, ir_version=10)
        reports = quantize_weights(shipped, fmt)
        found = with_factors(shipped, reports, Grid(), "segment0")
        assert found is not None
        write_graphs({"forward": shipped}, tmp_path, "one.bin")
        alone = (tmp_path / "one.bin").stat().st_size
        write_graphs({"forward": shipped, "scales": found.model}, tmp_path, "both.bin")
        assert (tmp_path / "both.bin").stat().st_size == alone


def built(folder: Path, bert: Path, quant: str) -> tuple[Prepared, Stage]:
    """The tiny BERT's forward graphs in a format, scales included."""
    wanted = Wanted(str(bert), "text-classification", 3, 9, scale_inputs=True)
    prepared = prepare(wanted, (quant,), ("train-forward",), folder / "source")
    return prepared, build_stage(prepared, Key("train-forward", quant, 2, (40,)), folder / "stage")


@pytest.mark.parametrize("quant", ["int4", "nf4"])
def test_the_check_of_an_export_finds_a_scale_that_is_off(
    quant: str, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder in two segments passes; if numpy moves one weight's scales by a thousandth more, it does not."""
    prepared, stage = built(tmp_path, bert_folder, quant)
    assert [piece.segment.name for piece in stage.pieces if piece.scales] == ["segment0", "segment1"]
    assert {name for one in stage.pieces for name in (s.input for s in one.scales)} == ones(stage.pieces).keys()
    chain, given = Chain(stage.links), checking_values(prepared, 2, 4)
    found = check_scales(stage, chain, given, prepared.stock.grid)
    assert set(found) == {"scales_error", "moved_scales_error"}
    assert found["scales_error"] == 0.0
    first = stage.pieces[0].scales[0].weight

    def wrong(exact: ir.Model, shipped: ir.Model, reports: Any, grid: Grid, factors: dict[str, Any]) -> ir.Model:
        more = {w: f * np.float32(1.001 if w == first else 1) for w, f in factors.items()}
        return moved(exact, shipped, reports, grid, more)

    monkeypatch.setattr(scale_checks, "moved", wrong)
    with pytest.raises(VerificationError, match="segment0.scales with moved scales"):
        check_scales(stage, chain, given, prepared.stock.grid)


def test_what_is_drawn_moves_every_scale(bert_folder: Path, tmp_path: Path) -> None:
    """The factors of the check are 1 nowhere, and the model's output differs with them."""
    prepared, stage = built(tmp_path, bert_folder, "int8")
    factors, given = drawn(stage.pieces), checking_values(prepared, 2, 4)
    assert all((factor != 1).all() for factor in factors.values())
    chain = Chain([link.scaled() for link in stage.links])
    still, there = (chain.forward({**given, **more})["features"] for more in ({}, factors))
    assert np.abs(still - there).max() > 1e-2


@pytest.mark.parametrize(
    ("quant", "grid", "words"),
    [
        ("int8-dynamic", Grid(), "int8-dynamic, which rounds activations: differences of its losses are noise"),
        ("fp32", Grid(), "expected weights with scales in 32 bits for --scale-inputs, found none"),
        ("nf4", Grid(nested_scales=True), "without --nested-scales"),
    ],
)
def test_where_nothing_can_be_moved_it_is_said(
    quant: str, grid: Grid, words: str, bert_folder: Path, tmp_path: Path
) -> None:
    """Rounded activations, float weights and nested scales are refused in a sentence."""
    wanted = Wanted(str(bert_folder), "text-classification", 3, 9, scale_inputs=True, grid=grid)

    def ask() -> None:
        prepared = prepare(wanted, (quant,), ("train-forward",), tmp_path / "source")
        build_stage(prepared, Key("train-forward", quant, 2, ()), tmp_path / "stage")

    with pytest.raises(UsageError, match=words):
        ask()
