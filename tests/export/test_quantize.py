from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from console.errors import UnsupportedModel, UsageError
from export.fold import freeze
from export.formats.report import WeightReport
from export.formats.rewrite import SMALLEST, quantize_weights
from export.formats.stock import Stock
from export.gradient.backward import LossSpec, build_backward
from export.gradient.present import present
from export.head import append_head
from export.slots import SlotSite, insert_slots
from export.sources.captured import Captured
from tests.export.graphs import Builder
from tests.export.oracle import Oracle
from tests.export.runtime import LEVELS, Array, copy_of, features_of, inline, pictures, run, text, worst

TOLERANCE = 1e-5
FAMILIES = ["captured_bert", "captured_distilbert", "captured_vit"]


def restored(fp32: ir.Model, int8: ir.Model) -> ir.Model:
    """The fp32 graph with the weights that the integers of the int8 graph stand for: s q, in float64."""
    twin = inline(fp32)
    held = {name: v.const_value.numpy() for name, v in int8.graph.initializers.items() if v.const_value is not None}
    for name, value in twin.graph.initializers.items():
        if f"{name}.q" in held:
            q, s = held[f"{name}.q"].astype(np.float64), held[f"{name}.s"].astype(np.float64)
            exact = q * (s[:, None] if s.ndim == 1 else s)
            # matrices are stored by output channel, tables by row
            shape = present(value.const_value).shape.numpy()
            turned = exact.T if s.ndim == 1 and len(shape) == 2 else exact
            value.const_value = ir.tensor(turned.reshape(shape).astype(np.float32), name=name)
    return twin


def prepared(captured: Captured, batch: int, sequence: int) -> tuple[ir.Model, list[SlotSite]]:
    """A frozen graph with slots and head, as it is before quantization."""
    captured = copy_of(captured)
    sites = insert_slots(captured.model, "auto")
    append_head(captured.model, features_of(captured), classes=3)
    return freeze(captured.model, batch, sequence), sites


def feeds_of(captured: Captured, sites: list[SlotSite], batch: int, sequence: int) -> dict[str, Array]:
    """Examples, adapters of rank 3, a head, labels and weights."""
    drawn = np.random.default_rng(6)
    width = sites[0].features_in
    vocabulary = 30522 if width == 384 else 96
    feeds = pictures(batch) if captured.modality == "image" else text(batch, sequence, vocabulary)
    for site in sites:
        feeds[site.a] = (drawn.standard_normal((width, 3)) / width**0.5).astype(np.float32)
        feeds[site.b] = drawn.standard_normal((3, width)).astype(np.float32) * np.float32(0.3)
    feeds["head.weight"] = (drawn.standard_normal((width, 3)) / width**0.5).astype(np.float32)
    feeds["labels"] = drawn.integers(0, 3, batch)
    feeds["weights"] = np.ones(batch, np.float32)
    return feeds


def agree(found: dict[str, Array], wanted: dict[str, Array]) -> None:
    """Every output within the tolerance of its own largest value: gradients are often far below 1."""
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        scale = float(np.max(np.abs(array)))
        assert scale > 0
        assert float(np.max(np.abs(found[name] - array))) <= TOLERANCE * scale, name


@pytest.mark.parametrize("which", FAMILIES)
def test_int8_forward_is_fp32_with_the_restored_weights(which: str, request: pytest.FixtureRequest) -> None:
    """Features and logits agree at every optimization level: nothing is lost but in the weights themselves."""
    captured: Captured = request.getfixturevalue(which)
    fp32, sites = prepared(captured, 2, 9)
    int8 = fp32.clone()
    quantize_weights(int8, "int8")
    feeds = feeds_of(captured, sites, 2, 9)
    wanted = run(restored(fp32, int8), feeds)
    for level in LEVELS:
        agree(run(int8, feeds, level), wanted)


@pytest.mark.parametrize("which", FAMILIES)
def test_int8_backward_is_fp32_with_the_restored_weights(which: str, request: pytest.FixtureRequest) -> None:
    """Loss and every gradient agree at every optimization level: forward and backward use one set of integers."""
    captured: Captured = request.getfixturevalue(which)
    frozen, sites = prepared(captured, 2, 9)
    wanted_names = [name for site in sites for name in (site.a, site.b)]
    fp32 = build_backward(frozen, wanted=wanted_names, loss=LossSpec())
    int8 = fp32.clone()
    quantize_weights(int8, "int8")
    feeds = feeds_of(captured, sites, 2, 9)
    wanted = run(restored(fp32, int8), feeds)
    for level in LEVELS:
        agree(run(int8, feeds, level), wanted)


def test_the_real_encoder_in_int8(captured_minilm: Captured) -> None:
    """all-MiniLM-L6-v2: a quarter of the bytes, exact against the restored weights, features turned by under 3 %."""
    fp32, sites = prepared(captured_minilm, 4, 32)
    int8 = fp32.clone()
    reports = quantize_weights(int8, "int8")
    feeds = feeds_of(captured_minilm, sites, 4, 32)
    found = run(int8, feeds)
    agree(found, run(restored(fp32, int8), feeds))
    original = run(fp32, feeds)["features"]
    cosine = np.sum(found["features"] * original, axis=1) / 384
    assert np.min(cosine) > 0.999
    before, after = (sum(getattr(r, f"bytes_{when}") for r in reports) for when in ("before", "after"))
    assert after < 0.26 * before
    assert all(r.relative_error is not None and r.relative_error < 0.03 for r in reports if r.format == "int8")


def test_numpy_agrees(captured_bert: Captured) -> None:
    """The int8 backward graph in numpy, operator by operator, gives what onnxruntime gives."""
    frozen, sites = prepared(captured_bert, 2, 7)
    backward = build_backward(frozen, wanted=[sites[0].a, sites[-1].b], loss=LossSpec())
    quantize_weights(backward, "int8")
    feeds = feeds_of(captured_bert, sites, 2, 7)
    known = {value.name for value in backward.graph.inputs}
    agree(Oracle(inline(backward))({n: a for n, a in feeds.items() if n in known}), run(backward, feeds))


def test_forward_and_backward_share_their_integers(captured_bert: Captured) -> None:
    """With one stock the graphs of a model hold the very same tensors under the same names."""
    frozen, sites = prepared(captured_bert, 2, 7)
    backward = build_backward(frozen, wanted=[sites[0].a], loss=LossSpec())
    stock = Stock()
    quantize_weights(frozen, "int8", stock)
    quantize_weights(backward, "int8", stock)
    shared = [name for name in frozen.graph.initializers if name.endswith((".q", ".s"))]
    assert len(shared) == 2 * 25
    for name in shared:
        assert frozen.graph.initializers[name].const_value is backward.graph.initializers[name].const_value


def test_every_use_dequantizes_for_itself(captured_bert: Captured) -> None:
    """One DequantizeLinear per product, just before it, along axis 0, with an int8 zero point of zeros."""
    frozen, sites = prepared(captured_bert, 2, 7)
    backward = build_backward(frozen, wanted=[sites[0].a], loss=LossSpec())
    quantize_weights(backward, "int8")
    nodes = list(backward.graph)
    places = [i for i, node in enumerate(nodes) if node.op_type == "DequantizeLinear"]
    # blocks 2 and 3 are walked back through: the first block's slot itself needs no product below it
    assert len(places) > 24
    for place in places:
        q, s, z = nodes[place].inputs
        assert nodes[place].attributes.get_int("axis") == 0
        assert [use.node for use in nodes[place].outputs[0].uses()] == [nodes[place + 1]]
        assert all(v is not None and v.const_value is not None for v in (q, s, z))
        zero = z.const_value.numpy() if z is not None and z.const_value is not None else np.ones(1)
        assert zero.dtype == np.int8
        assert not zero.any()
    onnx.checker.check_model(ir.to_proto(inline(backward)))
    values = [value for node in nodes for value in node.outputs if value.name]
    assert all(value.dtype is not None and value.shape is not None for value in values)


def linear(rows: int, features: int, outputs: int) -> ir.Model:
    """y = x W, named as a boundary would be."""
    b = Builder(3)
    x = b.input("x", [rows, features])
    product = b.op("MatMul", x, b.weight("W", features, outputs), shape=[rows, outputs], name="cut0.0")
    return b.model(**{"cut0.0": product})


@pytest.mark.parametrize(("rows", "features", "outputs"), [(1, 33, 35), (5, 1025, 1), (3, 1, 1031), (7, 31, 67)])
@pytest.mark.parametrize("level", LEVELS)
def test_sizes_that_no_block_divides(level: str, rows: int, features: int, outputs: int) -> None:
    """Odd sizes, one input and one output feature are exact at every level, and outputs keep their names."""
    fp32 = linear(rows, features, outputs)
    int8 = fp32.clone()
    (report,) = quantize_weights(int8, "int8")
    assert report.bytes_before == 4 * features * outputs
    assert report.bytes_after == features * outputs + 5 * outputs
    x = np.random.default_rng(1).standard_normal((rows, features)).astype(np.float32)
    agree(run(int8, {"x": x}, level), run(restored(fp32, int8), {"x": x}))


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("alpha", [1.0, 0.25])
# the second is what onnxruntime's own int8 products would take: multiples of their block of 32
@pytest.mark.parametrize(("features", "outputs"), [(33, 40), (64, 128)])
def test_fused_products_of_backward_graphs(trans_b: int, alpha: float, features: int, outputs: int) -> None:
    """FusedMatMul over a constant weight, turned or not and with a factor, stays what it was; q is always [out, in]."""
    b = Builder(4)
    columns = (outputs, features) if trans_b else (features, outputs)
    g = b.input("g", [2, 5, columns[0]])
    b.graph.opset_imports["com.microsoft"] = 1
    output = ir.val("y", ir.DataType.FLOAT, [2, 5, columns[1]])
    weight = b.weight("W", features, outputs)
    attributes = {"transB": trans_b, "alpha": alpha}
    b.graph.append(ir.node("FusedMatMul", [g, weight], attributes, domain="com.microsoft", outputs=[output], name="p"))
    fp32 = b.model(y=output)
    int8 = fp32.clone()
    quantize_weights(int8, "int8")
    q = int8.graph.initializers["W.q"].const_value
    assert q is not None
    assert list(q.shape) == [outputs, features]
    x = np.random.default_rng(1).standard_normal((2, 5, columns[0])).astype(np.float32)
    for level in LEVELS:
        agree(run(int8, {"g": x}, level), run(restored(fp32, int8), {"g": x}))


def test_a_gemm_is_not_skipped() -> None:
    """Gemm over a constant weight becomes MatMul and Add, and its weight int8."""
    b = Builder(5)
    x = b.input("x", [3, 32])
    y = b.op("Gemm", x, b.weight("W", 40, 32), b.weight("c", 40), shape=[3, 40], name="y", transB=1, alpha=0.5)
    fp32 = b.model(y=y)
    int8 = fp32.clone()
    (report,) = quantize_weights(int8, "int8")
    assert (report.name, report.format) == ("W.t", "int8")
    given = {"x": np.random.default_rng(1).standard_normal((3, 32)).astype(np.float32)}
    found, wanted = run(int8, given)["y"], run(fp32, given)["y"]
    assert 0 < worst(found, wanted) < 0.05
    assert [node.op_type for node in int8.graph] == ["Mul", "DequantizeLinear", "FusedMatMul", "Add"]


def test_a_batch_of_matrices() -> None:
    """Each matrix of a batch has scales of its own, and the product is that of the restored weights."""
    b = Builder(3)
    y = b.op("MatMul", b.input("x", [2, 5, 24]), b.weight("W", 2, 24, 40), shape=[2, 5, 40], name="product")
    int8 = b.model(y=y)
    exact = int8.clone()
    [report] = quantize_weights(int8, "int8")
    assert (report.format, report.bytes_after) == ("int8", 2 * 40 * (24 + 5))
    held = {name: v.const_value.numpy() for name, v in int8.graph.initializers.items() if v.const_value is not None}
    rows = held["W.q"].astype(np.float64) * held["W.s"][:, None]
    given = np.random.default_rng(1).standard_normal((2, 5, 24)).astype(np.float32)
    wanted = given.astype(np.float64) @ rows.reshape(2, 40, 24).swapaxes(1, 2)
    found = run(int8, {"x": given})["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert 0 < worst(found, run(exact, {"x": given})["y"]) < 0.05


def reasons(model: ir.Model) -> dict[str, WeightReport]:
    """Reports by weight."""
    return {report.name: report for report in quantize_weights(model, "int8")}


def test_what_stays_fp32_says_why() -> None:
    """Weights that something else reads, and small ones, are reported with their reasons and bytes."""
    b = Builder(6)
    x = b.input("x", [32, 32])
    table = b.weight("both", 32, 64)
    b.op("MatMul", x, table, shape=[32, 64], name="p")
    ids = ir.val("ids", const_value=ir.tensor(np.array([1, 2]), name="ids"))
    b.graph.register_initializer(ids)
    rows = b.op("Gather", table, ids, shape=[2, 64], name="rows")
    b.op("MatMul", b.weight("left", 40, 32), x, shape=[40, 32], name="l")
    b.op("MatMul", x, b.weight("small", 32, 3), shape=[32, 3], name="s")
    found = reasons(b.model(rows=rows))
    assert found["both"].reason == "read both as a table and as a matrix [in, out]"
    assert found["left"].reason == "read as input 0 of MatMul"
    assert found["small"].reason == "fewer than 1024 entries"
    assert all(r.format == "fp32" and r.bytes_before == r.bytes_after > 0 for r in found.values())


def test_adapters_and_head_are_never_quantized(captured_bert: Captured) -> None:
    """What is fed is not a weight, even where its default is as large as one."""
    captured = copy_of(captured_bert)
    sites = insert_slots(captured.model, "all-linear")
    append_head(captured.model, features_of(captured), classes=200)
    frozen = freeze(captured.model, 2, 7)
    before = [value.name for value in frozen.graph.inputs]
    found = reasons(frozen)
    assert [value.name for value in frozen.graph.inputs] == before
    assert not {"head.weight", *(site.a for site in sites), *(site.b for site in sites)} & set(found)
    assert "head.weight" in frozen.graph.initializers


def test_fp32_changes_nothing_and_unknown_formats_are_refused(captured_bert: Captured) -> None:
    """fp32 only reports; anything else than the formats is refused with their list."""
    frozen, _ = prepared(captured_bert, 2, 7)
    before = [node.op_type for node in frozen.graph]
    reports = quantize_weights(frozen, "fp32")
    assert {report.reason for report in reports} == {"fp32 was asked for", f"fewer than {SMALLEST} entries"}
    assert [node.op_type for node in frozen.graph] == before
    with pytest.raises(UsageError, match="formats fp32, fp16, int8, int8-blocks, int4, nf4, fp4, found 'int3'"):
        quantize_weights(frozen, "int3")


def test_weights_that_are_no_numbers_are_refused() -> None:
    """A weight with NaN ends the export by its name."""
    model = linear(2, 32, 40)
    broken = np.full((32, 40), np.nan, np.float32)
    model.graph.initializers["W"].const_value = ir.tensor(broken, name="W")
    with pytest.raises(UnsupportedModel, match="cannot store the weight W as int8: expected finite weights"):
        quantize_weights(model, "int8")
