"""Models with outputs of their own and with state, from a captured graph to a bundle's graphs."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from console.errors import StorageError, UnsupportedModel, UsageError, VerificationError
from export.apart import apart
from export.build import Piece
from export.chain import Chain
from export.drawn import draw_inputs, fitted
from export.gradient.present import present
from export.prepare import Prepared, Wanted, prepare
from export.preprocess import Preprocessing
from export.sources.captured import Captured, StatePair
from export.stage import GOLDEN, Key, Stage, build_stage
from export.stage_checks import verify_stage
from export.write import read_golden
from tests.export.graphs import Builder

BATCH, WIDTH, STEPS = 2, 48, 4


def recurrent(folder: Path) -> Captured:
    """Two stacked cells h' = tanh(x W + h U): an output y in the middle, one at the end, and two states."""
    b = Builder(3)
    full: list[int | str] = ["batch", WIDTH]
    value = b.input("x", full)
    states, outputs = [], {}
    for i in range(2):
        h = b.input(f"h{i}", full)
        into = b.op("MatMul", value, b.weight(f"cell.{i}.w", WIDTH, WIDTH), shape=full, name=f"into{i}")
        kept = b.op("MatMul", h, b.weight(f"cell.{i}.u", WIDTH, WIDTH), shape=full, name=f"kept{i}")
        summed = b.op("Add", into, kept, shape=full, name=f"summed{i}")
        value = b.op("Tanh", summed, shape=full, name=f"cell{i}")
        outputs[f"h{i}_next"] = value
        states.append(StatePair(f"h{i}", f"h{i}_next"))
        outputs[f"y{i}"] = value = b.op("Neg", value, shape=full, name=f"turned{i}")
    model = b.model(**outputs)
    original = folder / "original.onnx"
    ir.save(model, original)
    preprocess = Preprocessing("tensors")
    return Captured(model, "cells", "onnx", "0" * 64, "tensors", None, preprocess, original, {}, tuple(states))


def prepared_in(folder: Path) -> Prepared:
    """The recurrent net without slots."""
    return Prepared(recurrent(folder), [], None, 0, None, ("fp32", "int8"))


def stage_of(prepared: Prepared, folder: Path, quant: str = "fp32") -> Stage:
    """A stage with a cut at every legal place."""
    positions = prepared.cost(BATCH, "serve").positions
    return build_stage(prepared, Key("serve", quant, BATCH, positions), folder)


def by_numpy(prepared: Prepared, xs: np.ndarray) -> list[np.ndarray]:
    """y of both cells after the last step, in float64."""
    initializers = prepared.captured.model.graph.initializers.items()
    weights = {name: present(v.const_value).numpy().astype(np.float64) for name, v in initializers}
    h = [np.zeros((BATCH, WIDTH)), np.zeros((BATCH, WIDTH))]
    for x in xs.astype(np.float64):
        h[0] = np.tanh(x @ weights["cell.0.w"] + h[0] @ weights["cell.0.u"])
        h[1] = np.tanh(-h[0] @ weights["cell.1.w"] + h[1] @ weights["cell.1.u"])
    return [-h[0], -h[1]]


def test_a_chain_carries_state_as_numpy_does(tmp_path: Path) -> None:
    """Cut everywhere, over several steps, with an output that leaves from the middle."""
    prepared = prepared_in(tmp_path)
    stage = stage_of(prepared, tmp_path / "stage")
    assert len(stage.pieces) > 4
    xs = np.random.default_rng(0).standard_normal((STEPS, BATCH, WIDTH)).astype(np.float32)
    pairs = [(pair.input, pair.output) for pair in prepared.captured.states]
    runs = Chain(stage.links).runs([{"x": x} for x in xs], pairs, prepared.states(BATCH))
    for name, expected in zip(("y0", "y1"), by_numpy(prepared, xs), strict=True):
        np.testing.assert_allclose(runs[-1][name], expected, rtol=1e-5, atol=1e-5)


def test_outputs_leave_where_they_are_made(tmp_path: Path) -> None:
    """An output that is also read later keeps its name as a boundary; each leaves one segment only."""
    pieces: list[Piece] = stage_of(prepared_in(tmp_path), tmp_path / "stage").pieces
    leaving = [name for piece in pieces for name in piece.segment.leaving if not name.startswith("cut")]
    assert sorted(leaving) == ["h0_next", "h1_next", "y0", "y1"]
    assert [p.segment.name for p in pieces if "y0" in p.segment.leaving] != [pieces[-1].segment.name]
    assert any("y0" in piece.segment.entering for piece in pieces)


def test_states_are_counted_where_they_are_read(tmp_path: Path) -> None:
    """Each cell's state costs its bytes in one unit, whatever the segments are."""
    units = prepared_in(tmp_path).cost(BATCH, "serve").units
    assert sorted(u.state_bytes for u in units if u.state_bytes) == [4 * BATCH * WIDTH] * 2


@pytest.mark.parametrize("quant", ["fp32", "int8"])
def test_verification_compares_runs_with_the_original(quant: str, tmp_path: Path) -> None:
    """The chain agrees over three runs, the loss of int8 is stated, and a golden file is left."""
    prepared = prepared_in(tmp_path)
    stage = stage_of(prepared, tmp_path / "stage", quant)
    verify_stage(prepared, stage)
    assert stage.checks["chain_error"] <= 1e-5
    assert ("feature_cosine" in stage.checks) == (quant == "int8")
    fed, fetched = read_golden(tmp_path / "stage" / GOLDEN)
    assert (set(fed), set(fetched)) == ({"x"}, {"y0", "y1"})


def test_a_wrong_original_is_seen(tmp_path: Path) -> None:
    """An original with one other weight does not pass."""
    prepared = prepared_in(tmp_path)
    other = ir.load(prepared.captured.original)
    tensor = other.graph.initializers["cell.1.u"].const_value
    assert tensor is not None
    other.graph.initializers["cell.1.u"].const_value = ir.tensor(tensor.numpy() * 1.01, name="cell.1.u")
    ir.save(other, prepared.captured.original)
    with pytest.raises(VerificationError, match="h1_next of the chain of segments and of the original to agree"):
        verify_stage(prepared, stage_of(prepared, tmp_path / "stage"))


def test_indexes_stay_below_the_table(tmp_path: Path) -> None:
    """An integer that reaches a Gather through other operators is drawn below its rows, another below 2."""
    b = Builder(1)
    ids = ir.val("ids", ir.DataType.INT64, [5])
    flag = ir.val("flag", ir.DataType.INT64, [5])
    b.graph.inputs.extend([ids, flag])
    turned = ir.node("Unsqueeze", [ids, b.weight("axes", 1)])
    b.graph.append(turned)
    b.op("Gather", b.weight("table", 7, 3), turned.outputs[0], shape=[5, 1, 3], name="rows")
    drawn = [draw_inputs(b.graph, seed) for seed in range(20)]
    assert max(int(d["ids"].max()) for d in drawn) == 6
    assert max(int(d["flag"].max()) for d in drawn) == 1
    assert fitted({"ids": np.arange(2)}, b.graph)["ids"].tolist() == [0, 1, 0, 1, 0]


def test_a_child_answers_fails_and_dies() -> None:
    """What it returns and what it raises come back; a child that dies is a sentence."""

    def refuse() -> None:
        raise UsageError("expected one thing, found another")

    def die() -> None:
        import os

        os.kill(os.getpid(), 9)

    assert apart(lambda: json.loads('{"a": [1.5]}')) == {"a": [1.5]}
    with pytest.raises(UsageError, match="expected one thing"):
        apart(refuse)
    with pytest.raises(VerificationError, match="ended by signal 9; is there enough memory"):
        apart(die)
    with pytest.raises(VerificationError, match=r"do not \(ZeroDivisionError: .* by zero\); report this model"):
        apart(lambda: 1 // 0)
    with pytest.raises(StorageError, match=r"stopped \(FileNotFoundError: .*nowhere'\); is the disk full"):
        apart(lambda: Path("/nowhere").read_text())
    with pytest.raises(VerificationError, match=r"run within 0\.1 s, found that they had not ended"):
        apart(threading.Event().wait, limit_s=0.1)


def test_a_net_without_layers_has_no_slots(tmp_path: Path) -> None:
    """Nothing could take an adapter, and nothing is to learn: `auto` is none; layers that are named are refused."""
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph([helper.make_node("Sin", ["x"], ["y"])], "g", [x], [y])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    assert prepare(Wanted(str(path), ""), ("fp32",), ("serve",), tmp_path / "a").sites == []
    with pytest.raises(UnsupportedModel, match="layers that match the targets 'all-linear', found none"):
        prepare(Wanted(str(path), "", targets="all-linear"), ("fp32",), ("serve",), tmp_path / "b")
