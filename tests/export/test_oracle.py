"""Quantized nodes against numpy: every form is judged, and what is wrong is found."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from onnx import TensorProto

from console.errors import VerificationError
from export.activations.dynamic import dynamic
from export.chain import PLAIN, Graph
from export.formats.grid import Grid
from export.formats.registry import STORED
from export.formats.rewrite import quantize_weights
from export.formats.stock import Stock
from export.gradient.dims import dims_of, fixed
from export.gradient.present import present
from export.oracle.check import check_nodes, hold
from export.oracle.claims import claims
from export.oracle.expected import Sample
from export.oracle.fetched import fetch, groups
from export.write import write_graphs
from tests.conftest import ROOT
from tests.export.activations.nets import cnn, mlp
from tests.export.quantized import FORMS, IN, OUT, Made, bnb4, every_role, nbits, written

Bytes = npt.NDArray[np.uint8]

PACKED = replace(PLAIN, config={"session.intra_op.allow_spinning": "0"})
OPTIMIZED = replace(PACKED, graph_optimization="basic", execution_order="default")
GRIDS = [Grid(), Grid(block=16, zero_points=True, nested_scales=True)]
FLOOR = ROOT / ".venv-floor" / "bin" / "python"
RUNS = """
import json, sys, numpy as np, onnxruntime as ort
for path in sys.argv[1:]:
    with np.load(path + ".feeds.npz") as fed, np.load(path + ".wanted.npz") as kept:
        feeds, wanted = dict(fed), list(kept.values())
    for packed in ("0", "1"):
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        options.add_session_config_entry("session.disable_prepacking", packed)
        found = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)
        print(max(float(np.abs(f - w).max() / np.abs(w).max()) for f, w in zip(found, wanted, strict=True)))
"""
PRODUCTS = [name for name in FORMS if "level" in name or "FusedMatMul" in name or "Bnb4" in name]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_judged_and_right(name: str, tmp_path: Path) -> None:
    """One node is judged under each set of options, none is left out, and it is within the bar."""
    made = Made()
    path = written(made, tmp_path, FORMS[name](made))
    for options in (PLAIN, PACKED, OPTIMIZED):
        found = check_nodes(path, made.feeds, options)
        assert (found.count, found.unjudged) == (1, ())
        assert found.worst < (0.02 if "level 4" in name else 1e-5)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["graph.onnx", "graph.weights.bin"]


@pytest.mark.parametrize("fmt", STORED)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("grid", GRIDS, ids=["plain", "full"])
def test_every_format_of_an_export_is_judged(fmt: str, backward: bool, grid: Grid, tmp_path: Path) -> None:
    """A table, products either way round, a batched one, a convolution: each weight is judged where it is read."""
    made = Made()
    made.graph.outputs.extend(every_role(made))
    model = ir.Model(made.graph, ir_version=10)
    reports = quantize_weights(model, fmt, Stock(grid), backward=backward)
    path = written(made, tmp_path)
    for options in (PLAIN, PACKED, OPTIMIZED):
        found = check_nodes(path, made.feeds, options)
        assert (found.count, found.unjudged) == (len([r for r in reports if r.format != "fp32"]), ())
        assert found.worst <= 1e-5


@pytest.mark.heavy
def test_every_format_is_the_same_on_the_oldest_runtime(tmp_path: Path) -> None:
    """Graphs that were judged here give the same numbers there, packed and not."""
    if not FLOOR.exists():
        pytest.skip("the oldest supported runtime is not installed beside this one")
    asked = []
    for number, (fmt, backward, grid) in enumerate(itertools.product(STORED, (False, True), GRIDS)):
        made, folder = Made(), tmp_path / str(number)
        folder.mkdir()
        made.graph.outputs.extend(every_role(made))
        quantize_weights(ir.Model(made.graph, ir_version=10), fmt, Stock(grid), backward=backward)
        path = written(made, folder)
        check_nodes(path, made.feeds, PLAIN)
        run = Graph(path)
        fed: dict[str, Any] = made.feeds
        np.savez(f"{path}.feeds.npz", **fed)
        np.savez(f"{path}.wanted.npz", *run.session.run(run.outputs, fed))
        asked.append(str(path))
    done = subprocess.run([str(FLOOR), "-c", RUNS, *asked], capture_output=True, text=True, check=True)
    worst = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(worst) == 2 * len(asked)
    assert max(worst) <= 1e-5


def told(path: Path, feeds: dict[str, Any], name: str, change: Callable[[Bytes], Bytes]) -> Sample:
    """What a run of a graph returns, judged by a graph in which an initializer has other bytes."""
    graph = ir.load(path).graph
    tensor = present(graph.initializers[name].const_value)
    changed = change(np.frombuffer(tensor.tobytes(), np.uint8).copy()).tobytes()
    dims = list(tensor.shape.numpy())
    other = TensorProto(name=name, dims=dims, data_type=int(tensor.dtype), raw_data=changed)
    graph.initializers[name].const_value = ir.serde.deserialize_tensor(other)
    (claim,), _ = claims(graph)
    names = [str(value.name) for value in (*claim.needs, claim.output)]
    values = fetch(path, names, feeds, PLAIN)
    return claim.judge([values[n] for n in names[:-1]], values[names[-1]])


@pytest.mark.parametrize("name", FORMS)
def test_one_wrong_byte_of_a_weight_is_found(name: str, tmp_path: Path) -> None:
    """A byte that differs between what ran and what is said to have run puts an output out of its bound."""
    made = Made()
    path = written(made, tmp_path, FORMS[name](made))
    weight = "w.q" if "w.q" in made.graph.initializers else "w"
    size = present(made.graph.initializers[weight].const_value).nbytes
    rows = present(made.graph.initializers[weight].const_value).shape.numpy()[0]
    row = int(made.feeds["ids"][0, 0]) if "ids" in made.feeds else 3 % rows

    def change(data: Bytes) -> Bytes:
        data[size // rows * row + 7 if rows > 1 else size // 3] ^= 0x88
        return data

    assert not told(path, made.feeds, weight, lambda data: data).misses().any()
    assert told(path, made.feeds, weight, change).misses().any()


@pytest.mark.parametrize("name", [name for name in FORMS if "float16" not in name])
def test_wrong_scales_are_found(name: str, tmp_path: Path) -> None:
    """Scales that are off put outputs out of their bounds: by 1 in 1000, or by 1 in 5 where inputs are rounded."""
    made = Made()
    path = written(made, tmp_path, FORMS[name](made))
    factor = np.float32(1.2 if "level 4" in name else 1.001)

    def change(data: Bytes) -> Bytes:
        return np.asarray(data.view(np.float32) * factor).view(np.uint8)

    assert told(path, made.feeds, "w.s", change).misses().any()


@pytest.mark.parametrize("name", PRODUCTS)
def test_another_layout_is_found(name: str, tmp_path: Path) -> None:
    """Bytes of a matrix [in, out] where [out, in] is read, and halves of bytes the other way round, are found."""
    made = Made()
    path = written(made, tmp_path, FORMS[name](made))
    assert told(path, made.feeds, "w.q", lambda data: data.reshape(24, -1).T.reshape(-1)).misses().any()
    if "4" in name.split("level", maxsplit=1)[0] and "nf4" not in name:
        assert (
            told(path, made.feeds, "w.q", lambda data: np.bitwise_or(data << np.uint8(4), data >> np.uint8(4)))
            .misses()
            .any()
        )


def test_a_wrong_node_is_named(tmp_path: Path) -> None:
    """The sentence holds the node, the weight, its format, what was expected and what was found."""
    made = Made()
    path = written(made, tmp_path, nbits(4, "whole", 0)(made))
    (claim,), _ = claims(ir.load(path).graph)
    sample = Sample(np.array([[1.0, 2.5]]), np.array([[1.0, 2.0]]), np.full((1, 2), 0.1))
    message = (
        r"MatMulNBits /MatMulNBits.0 of g.onnx over w.q \(4 bits in blocks of 32, uint8 zero points, .* 2 within .* 2.5"
    )
    with pytest.raises(VerificationError, match=message):
        hold(claim, sample, "g.onnx")
    nothing = Sample(np.zeros((1, 2)), np.array([[1.0, 2.0]]), np.full((1, 2), 0.1))
    with pytest.raises(VerificationError, match="zeros only"):
        hold(claim, nothing, "g.onnx")
    strange = Sample(np.array([[np.nan, 2.0]]), np.array([[1.0, 2.0]]), np.full((1, 2), 0.1))
    with pytest.raises(VerificationError, match="found nan"):
        hold(claim, strange, "g.onnx")


def test_nodes_that_nothing_can_be_said_about_are_listed(tmp_path: Path) -> None:
    """A node that reads stored integers in a way that has no oracle is named, and no claim is made of it."""
    made = Made()
    x = made.fed("x", np.ones((2, 4), np.uint8))
    y = made.op("MatMulInteger", x, made.held("w", np.ones((4, 3), np.int8)), typed=ir.DataType.INT32)
    found = check_nodes(written(made, tmp_path, y), made.feeds, PLAIN)
    assert (found.count, found.unjudged) == (0, ("MatMulInteger /MatMulInteger.0",))


@pytest.mark.parametrize("net", [mlp, cnn])
def test_products_of_integers_are_judged_where_there_may_be_some(net: Callable[[], ir.Model], tmp_path: Path) -> None:
    """Activations of 8 bits have an oracle of their own, which judges all that reads stored integers there."""
    model = net()
    weights = [name for name, value in model.graph.initializers.items() if len(value.shape or ()) > 1]
    made, _ = dynamic(model, weights, tmp_path)
    shape = [fixed(dim) for dim in dims_of(model.graph.inputs[0])]
    feeds = {"x": np.random.default_rng(4).standard_normal(shape).astype(np.float32)}
    write_graphs({"g": made}, tmp_path, "g.bin")
    found = check_nodes(tmp_path / "g.onnx", feeds, PLAIN, integers=True)
    assert (found.count, found.unjudged) == (len(weights), ())
    assert 0 < found.steps <= 0.5
    assert len(check_nodes(tmp_path / "g.onnx", feeds, PLAIN).unjudged) == len(weights)


def weights_in_batches(made: Made, x_shape: tuple[int, ...], w_shape: tuple[int, ...]) -> ir.Value:
    """x W of matrices that are stored in int8 with one scale."""
    q = made.rng.integers(-127, 128, w_shape).astype(np.int8)
    w = made.op("DequantizeLinear", made.held("w.q", q), made.held("w.s", np.array(0.02, np.float32)))
    return made.op("MatMul", made.x(*x_shape), w)


@pytest.mark.parametrize(
    ("x_shape", "w_shape"),
    [((5, 8), (3, 8, 6)), ((2, 3, 5, 8), (3, 8, 6)), ((4, 5, 8), (1, 8, 6)), ((2, 3, 5, 8), (2, 1, 8, 6))],
)
def test_matrices_in_batches_are_judged_however_they_are_repeated(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Inputs with more, fewer or other batch axes than the weight; a wrong byte is found in each case."""
    made = Made()
    path = written(made, tmp_path, weights_in_batches(made, x_shape, w_shape))
    assert check_nodes(path, made.feeds, PLAIN).count == 1

    def change(data: Bytes) -> Bytes:
        data[-9] ^= 0x88
        return data

    assert told(path, made.feeds, "w.q", change).misses().any()


def strange_cast(made: Made) -> ir.Value:
    """Stored bytes that are looked up and become truth values."""
    held = made.held("w", np.arange(10, dtype=np.uint8))
    found = made.op("Gather", held, made.indices(10), typed=ir.DataType.UINT8)
    return made.op("Cast", found, to=int(ir.DataType.BOOL), typed=ir.DataType.BOOL)


def half_product(made: Made) -> ir.Value:
    """Arithmetic in float16."""
    q = made.held("w.q", made.rng.integers(-127, 128, (IN, OUT)).astype(np.int8))
    half = ir.DataType.FLOAT16
    w = made.op("DequantizeLinear", q, made.held("w.s", np.array(0.01, np.float16)), typed=half)
    return made.op("MatMul", made.fed("x", np.ones((2, IN), np.float16)), w, typed=half)


def single_number(made: Made) -> ir.Value:
    """One stored integer."""
    s = made.held("w.s", np.array(0.5, np.float32))
    return made.op("DequantizeLinear", made.held("w.q", np.array(3, np.int8)), s)


@pytest.mark.parametrize("make", [strange_cast, half_product, single_number])
def test_other_uses_of_stored_integers_are_no_claims(make: Callable[[Made], ir.Value], tmp_path: Path) -> None:
    """What a model may bring itself, and what has coarser arithmetic than float32, is not judged, and not refused."""
    made = Made()
    assert check_nodes(written(made, tmp_path, make(made)), made.feeds, PLAIN).count == 0


def test_blocks_of_other_arithmetic_are_no_claims() -> None:
    """Float16 activations and codes of a weight [in, out] are not what the oracle knows."""
    halves, turned = Made(), Made()
    nbits(4, "", 0)(halves).dtype = ir.DataType.FLOAT16
    present(bnb4("nf4")(turned).producer()).attributes["transB"] = ir.AttrInt64("transB", 0)
    for made in (halves, turned):
        assert claims(made.graph) == ([], list(made.graph))


def test_what_is_fetched_together_is_bounded() -> None:
    """Values in groups of so many bytes, each position once and in order; a value that is shared counts once."""
    values = [ir.val(str(n), ir.DataType.FLOAT, [n * 256]) for n in (1, 2, 3, 8)]
    a, b, c, d = values
    assert groups([(a, b), (b, c), (d,), (a,)], 6 * 1024) == [[0, 1], [2], [3]]
    assert groups([], 10) == []
