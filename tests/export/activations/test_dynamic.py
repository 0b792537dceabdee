from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from console.errors import UnsupportedModel, UsageError
from export.activations.dynamic import dynamic
from export.activations.oracle import check
from export.activations.static import static
from export.gradient.dims import shape_of
from tests.export.activations.nets import BATCH, CNN_WEIGHTS, both, cnn, drawn, mlp, numbers, operators, pictures, work
from tests.export.graphs import Builder
from tests.export.runtime import run, worst


def test_a_dense_net_computes_nearly_the_same_from_a_quarter_of_the_bytes(tmp_path: Path) -> None:
    """Gemm, MatMul and Gemm with alpha become products of integers; what they lose is what eight bits lose."""
    model, feeds = mlp(), {"x": drawn(BATCH, 12)}
    made, reports = dynamic(model, ["a.w", "b.w", "c.w"], work(tmp_path))
    assert [report.name for report in reports] == ["a.w.t", "b.w", "c.w"]
    assert all(report.format == "int8-dynamic" and not report.reason for report in reports)
    assert all(report.bytes_after < 0.45 * report.bytes_before for report in reports)
    assert operators(made).count("MatMulIntegerToFloat") == 3
    assert 0 < worst(run(made, feeds)["y"], run(model, feeds)["y"]) < 0.02
    assert check(made, feeds) < 0.01


def test_weights_are_rounded_by_column(tmp_path: Path) -> None:
    """A matrix is q s with s the largest entry of a column over 127, as numpy says it, and losses are told of it."""
    model = mlp()
    made, reports = dynamic(model, ["b.w"], work(tmp_path))
    w = numbers(model, "b.w")
    s = np.abs(w).max(axis=0) / np.float32(127)
    assert np.allclose(numbers(made, "b.w_scale"), s, rtol=1e-6)
    q = numbers(made, "b.w_quantized")
    assert q.dtype == np.int8
    assert np.abs(q - w / s).max() <= 0.5 + 1e-4
    lost = np.linalg.norm(q * numbers(made, "b.w_scale") - w) / np.linalg.norm(w)
    assert reports[0].relative_error == pytest.approx(lost, rel=1e-4)


def test_only_the_named_weights_change(tmp_path: Path) -> None:
    """All other tensors are the very same objects, and inputs and outputs keep names, types and shapes."""
    model = mlp("N")
    made, _ = dynamic(model, ["b.w"], work(tmp_path))
    for name in ("a.w", "a.b", "c.w"):
        assert made.graph.initializers[name].const_value is model.graph.initializers[name].const_value
    for mine, theirs in ((made.graph.inputs, model.graph.inputs), (made.graph.outputs, model.graph.outputs)):
        assert [(v.name, v.dtype, shape_of(v)) for v in mine] == [(v.name, v.dtype, shape_of(v)) for v in theirs]
    assert operators(model) == ["Gemm", "Relu", "MatMul", "Gemm"], "the model that was given is left as it was"
    assert operators(made)[:2] == ["Gemm", "Relu"]
    assert run(made, {"x": drawn(7, 12)})["y"].shape == (7, 5)


def test_convolutions_are_of_unsigned_integers(tmp_path: Path) -> None:
    """Runtimes up to 1.23 have no ConvInteger of int8: a convolution's weight is uint8, dense ones stay int8."""
    model, feeds = cnn(), {"x": pictures()["x"][:BATCH]}
    made, reports = dynamic(model, CNN_WEIGHTS, work(tmp_path))
    assert [numbers(made, f"{report.name}_quantized").dtype for report in reports] == [np.uint8] * 3 + [np.int8]
    assert operators(made).count("ConvInteger") == 3
    assert worst(run(made, feeds)["y"], run(model, feeds)["y"]) < 0.05
    assert check(made, feeds) < 0.01


def test_a_convolution_and_a_product_may_read_one_input(tmp_path: Path) -> None:
    """The tool is called twice, and each call names the rounded input itself."""
    model, feeds = both(), {"x": drawn(BATCH, 6, 6)}
    made, reports = dynamic(model, ["c.w", "m.w"], work(tmp_path))
    assert {report.format for report in reports} == {"int8-dynamic"}
    assert worst(run(made, feeds)["y"], run(model, feeds)["y"]) < 0.05
    assert check(made, feeds) < 0.01


def test_what_no_tool_takes_is_told(tmp_path: Path) -> None:
    """Every named weight has a report; one that stays float says how it is read."""
    b = Builder(2)
    ids, x = b.input("ids", [2]), b.input("x", [2, 4])
    ids.type = ir.TensorType(ir.DataType.INT64)
    rows = b.op("Gather", b.weight("table", 9, 4), ids, shape=[2, 4], name="rows")
    tied = b.weight("tied", 4, 4)
    y = b.op("MatMul", b.op("Add", rows, x, shape=[2, 4], name="h"), tied, shape=[2, 4], name="y")
    turned = b.op("Transpose", x, shape=[4, 2], name="turned")
    left = b.op("MatMul", tied, turned, shape=[4, 2], name="left")
    right = b.op("MatMul", x, b.weight("right", 4, 4), shape=[2, 4], name="right.y")
    cube = b.op("MatMul", x, b.weight("cube", 3, 4, 4), shape=[3, 2, 4], name="cubed")
    fed = b.op("MatMul", x, b.input("fed", [4, 4], np.zeros((4, 4))), shape=[2, 4], name="fed.y")
    model = b.model(y=y, left=left, right_y=right, cubed=cube, fed_y=fed)
    _, reports = dynamic(model, ["table", "tied", "right", "cube", "fed"], work(tmp_path))
    assert {report.name: (report.format, report.reason) for report in reports} == {
        "table": ("fp32", "read as input 0 of Gather"),
        "tied": ("fp32", "read as input 0 of MatMul"),
        "right": ("int8-dynamic", ""),
        "cube": ("fp32", "read as a batch of matrices of MatMul"),
        "fed": ("fp32", "its values can be fed"),
    }
    assert all(report.bytes_before == report.bytes_after for report in reports if report.format == "fp32")


def test_a_weight_that_gemm_reads_in_two_ways_is_not_stored_twice(tmp_path: Path) -> None:
    """A Gemm that is split would add a transposed copy beside the weight that another node still reads."""
    b = Builder(4)
    x, w = b.input("x", [2, 4]), b.weight("w", 4, 4)
    h = b.op("Gemm", x, w, shape=[2, 4], name="h", transB=1)
    model = b.model(y=b.op("Gemm", h, w, shape=[2, 4], name="y"))
    made, reports = dynamic(model, ["w"], work(tmp_path))
    assert reports[0].reason == "read as input 1 of Gemm"
    assert list(made.graph.initializers) == ["w"]


def test_constant_and_empty_channels_stay_what_they_are(tmp_path: Path) -> None:
    """A column of zeros and one of equal numbers have scales that are no NaN, and their outputs are right."""
    b = Builder(6)
    weight = b.weight("w", 8, 3)
    w = numbers(ir.Model(b.graph, ir_version=10), "w").copy()
    w[:, 0], w[:, 1] = 0, 0.25
    weight.const_value = ir.tensor(w, name="w")
    x = b.input("x", [2, 8])
    model = b.model(y=b.op("MatMul", x, weight, shape=[2, 3], name="y"))
    made, _ = dynamic(model, ["w"], work(tmp_path))
    y = run(made, {"x": drawn(2, 8)})["y"]
    assert (y[:, 0] == 0).all()
    assert worst(y, run(model, {"x": drawn(2, 8)})["y"]) < 0.02
    assert (run(made, {"x": np.zeros((2, 8), np.float32)})["y"] == 0).all()


def test_seven_bits_where_processors_saturate(tmp_path: Path) -> None:
    """With `reduce` no weight of a matrix product is beyond 64."""
    full, _ = dynamic(mlp(), ["b.w"], work(tmp_path))
    less, _ = dynamic(mlp(), ["b.w"], tmp_path / "work", reduce=True)
    assert np.abs(numbers(full, "b.w_quantized").astype(int)).max() == 127
    assert np.abs(numbers(less, "b.w_quantized").astype(int)).max() == 64


def test_nothing_is_left_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No files, no handlers of the root logger, no other folder for temporary files, not a line printed."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.root.manager.disable, tempfile.gettempdir())
    sys.modules.pop("onnxruntime.quantization.matmul_nbits_quantizer", None)
    temporary = set(Path(tempfile.gettempdir()).glob("ort.quant.*"))
    dynamic(mlp(), ["a.w", "b.w"], work(tmp_path))
    assert (list(root.handlers), root.level, logging.root.manager.disable, tempfile.gettempdir()) == before
    assert set(Path(tempfile.gettempdir()).glob("ort.quant.*")) <= temporary
    assert list((tmp_path / "work").iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_bad_weights_are_refused(tmp_path: Path) -> None:
    """A name that is none, NaN, and more numbers than the tool can hold: a sentence each, and no file."""
    folder = work(tmp_path)
    with pytest.raises(UsageError, match="expected names of weights of the graph, found nobody"):
        dynamic(mlp(), ["b.w", "nobody"], folder)
    model = mlp()
    broken = numbers(model, "b.w").copy()
    broken[3, 2] = np.nan
    model.graph.initializers["b.w"].const_value = ir.tensor(broken, name="b.w")
    with pytest.raises(UnsupportedModel, match="expected numbers in the weight b.w, found NaN or infinity"):
        dynamic(model, ["b.w"], folder)
    assert list(folder.iterdir()) == []


def with_table() -> tuple[ir.Model, ir.TensorProtocol]:
    """The dense net beside a table of three gigabytes that must not be read."""
    model = mlp()

    def never() -> ir.TensorProtocol:
        raise AssertionError("a weight was read")

    huge = ir.LazyTensor(never, ir.DataType.FLOAT, ir.Shape([48, 2**24]), name="huge")
    table, row = ir.val("huge", const_value=huge), ir.val("row", const_value=ir.tensor(np.array([1]), name="row"))
    model.graph.register_initializer(table)
    model.graph.register_initializer(row)
    picked = ir.node("Gather", [table, row], name="pick")
    model.graph.append(picked)
    value = picked.outputs[0]
    value.name, value.type, value.shape = "picked", ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, 2**24])
    model.graph.outputs.append(value)
    return model, huge


def test_what_is_not_named_is_not_read(tmp_path: Path) -> None:
    """A large table beside the weight is in nobody's memory, and the same object afterwards."""
    model, huge = with_table()
    made, _ = dynamic(model, ["b.w"], work(tmp_path))
    assert made.graph.initializers["huge"].const_value is huge


def test_what_no_tool_can_hold_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Dynamic where the weight itself is too large, static where the graph is, since it has to run."""
    model, _ = with_table()
    folder = work(tmp_path)
    said = r"expected at most 2.0 GiB of weights for onnxruntime's quantization, found 3.0 GiB; take --quant int8"
    with pytest.raises(UnsupportedModel, match=said):
        dynamic(model, ["huge"], folder)
    with pytest.raises(UnsupportedModel, match=said):
        static(model, ["b.w"], [{"x": drawn(BATCH, 12)}], "minmax", folder)
    assert list(folder.iterdir()) == []
