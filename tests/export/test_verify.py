"""Every check of the exporter refuses what is wrong, in words, and lets pass what is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from console.errors import VerificationError
from export.build import build, twin
from export.chain import Chain, Graph, Link, loss_of
from export.cut import cut
from export.formats.grid import Grid
from export.formats.rewrite import quantize_weights
from export.formats.stock import Stock
from export.gradient.backward import LossSpec, build_backward
from export.gradient.path import NoGradientRule
from export.verify import check_gradients, check_loss, check_same, check_twins
from export.write import write_graphs
from tests.export.graphs import CLASSES, WIDTH, Builder, feeds, residual_mlp

WIDE = 48  # above the size below which a weight is not quantized


def test_same_within_the_bar() -> None:
    """A difference of 1e-6 of the largest entry passes, one of 1e-4 does not, nor does NaN."""
    expected = np.array([1.0, -200.0])
    assert check_same(expected + 2e-4, expected, "a chain") == pytest.approx(1e-6)
    with pytest.raises(VerificationError, match=r"expected a chain to agree within 1e-05, found .* 0\.0001"):
        check_same(expected + 2e-2, expected, "a chain")
    with pytest.raises(VerificationError, match="found a relative difference of nan"):
        check_same(expected * np.nan, expected, "a chain")


def test_quantization_that_loses_too_much_is_refused() -> None:
    """A cosine below 0.98 in any row is refused with the way out; a small loss is stated."""
    exact = np.eye(3, 4) + 0.1
    stated = check_loss({"features": exact + 0.01}, {"features": exact}, ["features"])
    assert stated["feature_cosine"] > 0.99
    assert 0 < stated["feature_relative_error"] < 0.1
    one_bad_row = exact.copy()
    one_bad_row[1] = exact[1][::-1]
    with pytest.raises(VerificationError, match="cosine of at least 0.98 .* --quant fp32"):
        check_loss({"features": one_bad_row}, {"features": exact}, ["features"])


def written(models: dict[str, ir.Model], folder: Path) -> dict[str, Graph]:
    """Models as sessions."""
    folder.mkdir(exist_ok=True)
    write_graphs(models, folder, "weights.bin")
    return {name: Graph(folder / f"{name}.onnx") for name in models}


# a format, its settings, and the end of the name of a tensor that it has in forward and in backward graphs
STORED = {
    "fp16": ("fp16", Grid(), "h", "h"),
    "int8": ("int8", Grid(), "s", "s"),
    "int8 in blocks": ("int8-blocks", Grid(block=16), "s", "s"),
    "int4": ("int4", Grid(block=16), "s", "s"),
    "int4 with zero points": ("int4", Grid(block=16, zero_points=True), "z", "z.linear"),
    "int4 by half-quadratic steps": ("int4", Grid(block=16, scales="hqq", zero_points=True), "q", "q.linear"),
    "nf4": ("nf4", Grid(), "a", "a"),
    "fp4": ("fp4", Grid(block=32), "c", "c"),
    "nf4 with nested scales": ("nf4", Grid(nested_scales=True), "a.codes", "a.codes"),
}


@pytest.mark.parametrize("what", STORED)
def test_a_quantized_graph_equals_its_restored_twin(what: str, tmp_path: Path) -> None:
    """The same bytes give the same numbers in both directions; with one byte changed they do not, and that is seen."""
    exact, values = residual_mlp(width=WIDE), feeds(width=WIDE)
    fmt, grid, *ends = STORED[what]
    [piece] = build(exact, [], "train", fmt, Stock(grid))
    for kind, end in zip(("forward", "backward"), ends, strict=True):
        reports = piece.reports[kind]
        assert {report.format for report in reports} == {fmt}
        right = twin(piece.exact[kind], piece.shipped[kind], reports, grid)
        part = piece.shipped[kind].graph.initializers[f"layer.1.weight.{end}"]
        kept, part.const_value = part.const_value, damaged(part)
        wrong = twin(piece.exact[kind], piece.shipped[kind], reports, grid)
        part.const_value = kept
        graphs = written({"shipped": piece.shipped[kind], "right": right, "wrong": wrong}, tmp_path / kind)
        assert check_twins(graphs["shipped"], graphs["right"], values, "a graph") <= 1e-6
        with pytest.raises(VerificationError, match="of a graph to agree within"):
            check_twins(graphs["shipped"], graphs["wrong"], values, "a graph")


def damaged(part: ir.Value) -> ir.TensorProtocol:
    """A tensor with one of its first numbers changed."""
    tensor = part.const_value
    assert tensor is not None
    numbers = np.array(tensor.numpy())
    flat = numbers.reshape(-1)
    if flat.dtype.kind == "f":
        flat[5] = flat[5] * 1.1 + 0.1
    else:
        flat[5] = (flat[5].astype(np.uint8) ^ 7).astype(flat.dtype)
    return ir.tensor(numbers, dtype=tensor.dtype, name=part.name)


def test_twins_are_not_the_exact_graph(tmp_path: Path) -> None:
    """Quantization changes numbers, so the comparison is not of a graph with itself."""
    exact = residual_mlp(width=WIDE)
    shipped = exact.clone()
    reports = quantize_weights(shipped, "int8")
    graphs = written({"exact": exact.clone(), "twin": twin(exact, shipped, reports, Grid())}, tmp_path)
    values = feeds(width=WIDE)
    assert np.abs(graphs["exact"](values)["logits"] - graphs["twin"](values)["logits"]).max() > 1e-4


def chain_with(backward: ir.Model, folder: Path) -> Chain:
    """One segment with some backward graph."""
    [segment] = cut(residual_mlp(), [])
    write_graphs({"forward": segment.model, "backward": backward}, folder, "weights.bin")
    return Chain([Link("segment0", folder / "forward.onnx", folder / "backward.onnx")])


FACTORS = [f"slot.layer.{i}.{f}" for i in range(3) for f in "AB"]


def test_right_gradients_pass(tmp_path: Path) -> None:
    """The gradient graph agrees with central differences far below the bar."""
    backward = build_backward(residual_mlp(), wanted=FACTORS, loss=LossSpec())
    errors = check_gradients(chain_with(backward, tmp_path), feeds(), {"segment0": FACTORS})
    assert errors["segment0"] <= 2e-3


def test_wrong_gradients_are_refused(tmp_path: Path) -> None:
    """A gradient that is 3 % too long is seen."""
    backward = build_backward(residual_mlp(), wanted=FACTORS, loss=LossSpec())
    for position, value in enumerate(list(backward.graph.outputs)):
        if str(value.name).startswith("grad."):
            name, value.name = value.name, f"{value.name}/right"
            longer = ir.node("Mul", [value, _constant(backward.graph, 1.03)])
            longer.outputs[0].name, longer.outputs[0].type, longer.outputs[0].shape = name, value.type, value.shape
            backward.graph.append(longer)
            backward.graph.outputs[position] = longer.outputs[0]
    said = r"gradient of segment0 within 1% of central differences, found (?:2\.[89]|3\.\d)%"
    with pytest.raises(VerificationError, match=said):
        check_gradients(chain_with(backward, tmp_path), feeds(), {"segment0": FACTORS})


def _constant(graph: ir.Graph, number: float) -> ir.Value:
    name = f"constant.{len(graph.initializers)}"
    value = ir.val(name, const_value=ir.tensor(np.float32(number), name=name))
    graph.register_initializer(value)
    return value


def test_missing_gradients_are_refused(tmp_path: Path) -> None:
    """A slot without a gradient is not passed over."""
    backward = build_backward(residual_mlp(), wanted=FACTORS[:4], loss=LossSpec())
    with pytest.raises(VerificationError, match="expected gradients for every slot of segment0"):
        check_gradients(chain_with(backward, tmp_path), feeds(), {"segment0": FACTORS})


def test_an_operator_without_a_rule_is_refused_by_name() -> None:
    """Mode train names the operator and its node, the trainers that still work, and the modes that need no gradient."""
    b = Builder(6)
    x = b.input("x", [4, WIDTH])
    a = b.input("slot.layer.A", [WIDTH, "r_0"], np.zeros((WIDTH, 0)))
    factor = b.input("slot.layer.B", ["r_0", WIDTH], np.zeros((0, WIDTH)))
    down = b.op("MatMul", x, a, shape=[4, "r_0"], name="down")
    up = b.op("MatMul", down, factor, shape=[4, WIDTH], name="up")
    logits = b.op("Hardmax", up, shape=[4, WIDTH], name="hard")
    said = r"Hardmax .*/hard/Hardmax.*`ridge`.*`spry`.*--mode train-forward.*--mode serve"
    with pytest.raises(NoGradientRule, match=said):
        build(b.model(logits=logits), [], "train", "fp32", Stock())


def test_the_loss_is_a_weighted_sum() -> None:
    """Cross entropy by hand; masked rows count nothing, whatever they hold."""
    logits = np.zeros((3, CLASSES), np.float32)
    weights = np.array([1.0, 2.0, 100.0], np.float32)
    assert loss_of(logits, np.array([0, 2, -100]), weights) == pytest.approx(3 * np.log(CLASSES))
