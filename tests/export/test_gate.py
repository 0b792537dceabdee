"""The noise gate and the report of a variant on exported chains, and what the command makes of them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from console.errors import VerificationError
from export.capture import capture
from export.chain import Chain, Link
from export.cli import export
from export.cli_inspect import inspect
from export.gate import Bench, Entrance, Feed, entrance, measure, opened, rounds_activations
from export.head import append_head
from export.prepare import Prepared, Wanted, prepare
from export.report.variant import MOST_FLIPS, Variant
from export.sample import read_sample
from export.sources.captured import Captured
from export.stage import Key, Stage, build_stage
from export.stage_checks import verify_stage
from export.variants import _stacked, items, refuse_growth
from quant.geometry import Layer, geometry
from quant.int8 import dequantize_rows, quantize_rows
from quant.variants import class_angles, decisions
from tests.export.runtime import features_of
from tests.export.test_chain import prepared_from, stage_of
from wire.bundle import MANIFEST
from wire.manifest import parse_manifest
from wire.record import read_record

WIDE = 32
CANCELLING, FAIR = 0.51, 0.99


def classifier(small: float, classes: int = WIDE) -> onnx.ModelProto:
    """logits = x (P - Q) + b, made as (x [P Q]) [I; -I] + b: large entries of P and Q cancel.

    The large ones make a step of int8; the small ones are `small` of it, so that 0.51 is rounded up to twice as much
    and 0.99 to as much as it was. b is large beside x (P - Q).
    """
    rng = np.random.default_rng(3)
    signs = np.sign(rng.standard_normal((WIDE, classes))).astype(np.float32)
    p, q = small * signs, -small * signs
    p[0] = q[0] = 127.0
    weights = {
        "features.weight": np.hstack([p, q]).astype(np.float32),
        "classifier.weight": np.vstack([np.eye(classes), -np.eye(classes)]).astype(np.float32),
        "classifier.bias": (60 + 5 * rng.standard_normal(classes)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "features.weight"], ["f"], name="/features/MatMul"),
        helper.make_node("MatMul", ["f", "classifier.weight"], ["product"], name="/classifier/MatMul"),
        helper.make_node("Add", ["product", "classifier.bias"], ["logits"], name="/classifier/Add"),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", kind, ["N", WIDE])],
        [helper.make_tensor_value_info("logits", kind, ["N", classes])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def written(folder: Path, small: float, rows: int = 38) -> tuple[Path, Path]:
    """The classifier and real input for it."""
    model, sample = folder / "model.onnx", folder / "sample.npz"
    onnx.save(classifier(small), model)
    np.savez(sample, x=np.random.default_rng(5).standard_normal((rows, WIDE)).astype(np.float32))
    return model, sample


def verified(folder: Path, small: float, quant: str = "int8") -> tuple[Prepared, Stage]:
    """A stage of the classifier, checked."""
    model, sample = written(folder, small)
    wanted = Wanted(str(model), targets="", sample=read_sample(sample))
    prepared = prepare(wanted, ("fp32", "int8"), ("serve",), folder / "work")
    stage = build_stage(prepared, Key("serve", quant, 4, ()), folder / "stage")
    verify_stage(prepared, stage)
    return prepared, stage


def variant_of(stage: Stage) -> Variant:
    """What the checks hold of the variant."""
    return read_record(Variant, stage.checks["variant"], "checks")


def by_numpy(x: np.ndarray, folder: Path, *, quantized: bool) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the classifier in float64 with weights as int8 has them, and the last weight by classes."""
    model = onnx.load(folder / "model.onnx")
    held = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    if quantized:
        for name in ("features.weight", "classifier.weight"):
            held[name] = dequantize_rows(*quantize_rows(held[name].T)).T.astype(np.float64)
    logits = x.astype(np.float64) @ held["features.weight"] @ held["classifier.weight"] + held["classifier.bias"]
    return logits, held["classifier.weight"].T


def by_hand(x: np.ndarray, folder: Path, *, quantized: bool) -> np.ndarray:
    """What the classifier's last product reads, in float64."""
    model = onnx.load(folder / "model.onnx")
    (up,) = (numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "features.weight")
    kept = dequantize_rows(*quantize_rows(up.T)).T if quantized else up
    return np.asarray(x.astype(np.float64) @ kept)


def test_a_variant_that_amplifies_noise_is_measured_as_it_is(tmp_path: Path) -> None:
    """Small weights that int8 doubles amplify noise 1 / 0.51 times as much; where int8 keeps them, it is once."""
    noise = variant_of(verified(tmp_path, CANCELLING)[1]).noise
    assert noise is not None
    assert (noise.enters, noise.output, noise.passes) == (("x",), "logits", False)
    assert [one.size for one in noise.sizes] == [1e-3, 1e-2]
    assert noise.growth == pytest.approx(1 / CANCELLING, rel=0.05)
    for one in noise.sizes:
        assert one.variant / one.exact == pytest.approx(1 / CANCELLING, rel=0.05)
        assert one.exact <= one.exact_high


def test_a_fair_variant_passes(tmp_path: Path) -> None:
    """The same net with weights near whole steps is within a few per cent of fp32, and strict has nothing to say."""
    stage = verified(tmp_path, FAIR)[1]
    assert stage.checks["noise_growth"] == pytest.approx(1 / FAIR, rel=0.01)
    refuse_growth(stage.checks, "int8", "zero")


def test_fp32_has_no_variant(tmp_path: Path) -> None:
    """Nothing is measured against itself."""
    stage = verified(tmp_path, CANCELLING, "fp32")[1]
    assert not {"variant", "noise_growth"} & stage.checks.keys()
    refuse_growth(stage.checks, "fp32", "zero")


def test_flips_margins_and_angles_are_those_of_numpy(tmp_path: Path) -> None:
    """All rows of the sample are compared, each once, and figures are those of weights dequantized by hand."""
    _, stage = verified(tmp_path, CANCELLING)
    found, x = variant_of(stage).decided, read_sample(tmp_path / "sample.npz")["x"]
    (exact, w), (variant, v) = (by_numpy(x, tmp_path, quantized=quantized) for quantized in (False, True))
    wanted = decisions(exact, variant, w, v)
    assert found is not None
    assert (found.output, found.samples, found.classes, found.flipped) == ("logits", 38, WIDE, len(wanted.flips))
    assert found.flipped > 3
    listed = [(f.sample, f.exact_class, f.variant_class) for f in found.flips]
    assert listed == [(f.sample, f.exact_class, f.variant_class) for f in wanted.flips][:MOST_FLIPS]
    np.testing.assert_allclose(found.exact_margins, wanted.exact_margins, atol=1e-3)
    np.testing.assert_allclose(found.variant_margins, wanted.variant_margins, atol=1e-3)
    assert found.angles is not None
    assert wanted.angles is not None
    assert found.angles.turned_most == pytest.approx(wanted.angles.turned_most, abs=1e-4)
    assert found.angles.nearest_exact == pytest.approx(90.0)
    layers = [Layer(by_hand(x, tmp_path, quantized=q), z, c) for q, z, c in ((False, exact, w), (True, variant, v))]
    place = geometry(*layers)
    assert found.geometry is not None
    assert place is not None
    assert dataclasses.astuple(found.geometry) == pytest.approx(dataclasses.astuple(place), rel=1e-3)
    assert not list(tmp_path.rglob("*.copy.onnx"))


def test_rows_that_fill_a_batch_are_not_counted(tmp_path: Path) -> None:
    """Of 10 rows in micro-batches of 4 two are repeated to fill the third, and left out of every figure."""
    model, sample = written(tmp_path, FAIR, rows=10)
    prepared = prepare(
        Wanted(str(model), targets="", sample=read_sample(sample)), ("int8",), ("serve",), tmp_path / "w"
    )
    feeds = items(prepared, 4)
    assert [feed.rows for feed in feeds] == [4, 4, 2]
    fed = np.concatenate([feed.runs[0]["x"][: feed.rows] for feed in feeds])
    assert np.array_equal(fed, read_sample(sample)["x"])


def test_noise_on_token_ids_is_put_on_their_rows(captured_bert: Captured, tmp_path: Path) -> None:
    """In a copy of the graph, with the weights of the other, gone afterwards; nothing added changes nothing."""
    prepared = prepared_from(captured_bert, "auto")
    stage = stage_of(prepared, 1, tmp_path, "int8")
    run = prepared.samples(2, None)[0]
    where = entrance(stage.pieces, run)
    assert where is not None
    assert (where.segment, where.shape) == ("segment0", (2, 9, 32))
    chain = Chain(stage.links)
    plain = chain.forward(run)
    table = dict(prepared.captured.model.graph.initializers.items())["embeddings.word_embeddings.weight"].const_value
    assert table is not None
    with opened(chain, where) as noisy:
        values = noisy.forward({**run, "noise": np.zeros(where.shape, np.float32)})
        assert np.array_equal(values["features"], plain["features"])
        restored = dequantize_rows(*quantize_rows(table.numpy()))[run["input_ids"]]
        np.testing.assert_allclose(values["noise/to"], restored, rtol=1e-6, atol=1e-7)
        # the noise that turns one row into another is as good as the other id
        other = {**run, "input_ids": run["input_ids"].copy()}
        other["input_ids"][0, 1] = 7
        noise = np.zeros(where.shape, np.float32)
        noise[0, 1] = dequantize_rows(*quantize_rows(table.numpy()))[7] - restored[0, 1]
        found = noisy.forward({**run, "noise": noise})["features"]
        np.testing.assert_allclose(found, chain.forward(other)["features"], atol=1e-5)
    assert not list(tmp_path.rglob("*.copy.onnx"))


@pytest.mark.parametrize("family", ["captured_bert", "captured_vit"])
def test_encoders_in_int8_hardly_amplify(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Texts by their embedding and pictures by their pixels; features of eight samples turn by a few degrees."""
    prepared = prepared_from(request.getfixturevalue(family), "auto")
    stage = stage_of(prepared, 1, tmp_path, "int8")
    verify_stage(prepared, stage)
    found = variant_of(stage)
    assert found.noise is not None
    assert 0.9 < found.noise.growth < 1.1
    assert all(0.1 < one.exact < one.exact_high < 2 for one in found.noise.sizes)
    assert found.decided is None
    assert found.turned is not None
    assert (found.turned.output, found.turned.samples) == ("features", 8)
    assert 0 < found.turned.median <= found.turned.most < 5


def linear(folder: Path, *, turned: bool) -> tuple[Path, np.ndarray]:
    """logits = x W + b, as MatMul and Add or as Gemm of [classes, features]; the file, and W as [classes, features]."""
    rng = np.random.default_rng(9)
    w, kind = rng.standard_normal((40, WIDE)).astype(np.float32), onnx.TensorProto.FLOAT
    bias = numpy_helper.from_array(rng.standard_normal(40).astype(np.float32), "bias")
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["product"]),
        helper.make_node("Add", ["bias", "product"], ["logits"]),
    ]
    if turned:
        nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["logits"], transB=1)]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", kind, ["N", WIDE])],
        [helper.make_tensor_value_info("logits", kind, ["N", 40])],
        [numpy_helper.from_array(w if turned else np.ascontiguousarray(w.T), "weight"), bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "linear.onnx")
    return folder / "linear.onnx", w


@pytest.mark.parametrize("turned", [False, True])
def test_classes_turn_as_their_rows_are_rounded(turned: bool, tmp_path: Path) -> None:  # a case
    """Rows of the weight as int8 restores it, by hand, are as far from those of fp32 as the report says."""
    path, w = linear(tmp_path, turned=turned)
    prepared = prepare(Wanted(str(path), targets=""), ("int8",), ("serve",), tmp_path / "work")
    stage = build_stage(prepared, Key("serve", "int8", 4, ()), tmp_path / "stage")
    verify_stage(prepared, stage)
    found = variant_of(stage).decided
    assert found is not None
    assert found.angles is not None
    wanted = class_angles(w, dequantize_rows(*quantize_rows(w)))
    assert wanted.turned_most > 0.1
    assert dataclasses.astuple(found.angles) == pytest.approx(dataclasses.astuple(wanted), rel=1e-6)
    assert found.geometry is not None
    assert found.geometry.length == pytest.approx(1.0)  # what enters is not rounded


def test_masks_get_no_noise(captured_bert: Captured, tmp_path: Path) -> None:
    """A float input of zeros and ones beside token ids leaves the ids' rows as the place for noise."""
    prepared = prepared_from(captured_bert, "auto")
    pieces = stage_of(prepared, 0, tmp_path).pieces
    run = prepared.samples(2, None)[0]
    mask = run["attention_mask"].astype(np.float32)
    assert entrance(pieces, {**run, "float_mask": mask}) == entrance(pieces, run)
    assert entrance(pieces, {**run, "x": mask + 0.5}) == Entrance(("x",))
    assert entrance(pieces, {}) is None


def test_outputs_that_are_no_numbers_are_refused() -> None:
    """By the name of the output, with what to do."""
    feed = Feed([{}], [], {}, 2)
    runs = [[{"y": np.array([[1.0], [np.nan], [2.0]], np.float32)}]]
    with pytest.raises(VerificationError, match=r"expected numbers in y for all samples, found NaN or infinity; give"):
        _stacked(runs, [feed], "y", 3)
    assert _stacked([[{"y": np.array([[1.0], [3.0], [np.nan]])}]], [feed], "y", 3).tolist() == [[1.0], [3.0]]


def command(folder: Path, small: float, *more: str) -> list[str]:
    """A command line for the classifier."""
    model, sample = written(folder, small)
    fixed = ["--budget", "100MiB", "--sample", str(sample), "--adapter-targets", "", "--quant", "int8"]
    return [str(model), *fixed, "--out", str(folder / "out"), *more]


def test_the_command_warns_and_the_manifest_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line below the closing table, one record in the manifest, and words, tables and JSON of `inspect`."""
    assert export(command(tmp_path, CANCELLING)) == 0
    told = capsys.readouterr().out
    assert "warning: int8 amplifies small noise on x 1.9" in told
    assert "--strict refuses it" in told
    m = parse_manifest((tmp_path / "out" / "board" / MANIFEST).read_bytes())
    kept = read_record(Variant, m.extra["verified"]["variant"], "manifest")
    assert kept.noise is not None
    assert kept.decided is not None
    assert kept.noise.growth == m.extra["verified"]["noise_growth"]

    assert inspect([str(tmp_path / "out" / "board")]) == 0
    words = capsys.readouterr().out
    for part in (
        "noise growth 1.9",
        "variant   int8 amplifies small noise on x 1.9",
        f"{kept.decided.flipped} of 38 samples in another class than in fp32",
        "noise on x, how much more of it is in logits:",
        "margins of 38 samples",
        f"samples in another class, {kept.decided.flipped} of 38:",
        "directions of the classes:",
        "features beside the class that fp32 chooses:",
    ):
        assert part in words, part
    assert inspect([str(tmp_path / "out" / "board"), "--json"]) == 0
    given = json.loads(capsys.readouterr().out)
    assert given["verified"]["variant"]["decided"]["flipped"] == kept.decided.flipped
    assert "variant" not in given["derived"]["distance"]


def test_strict_refuses_it_and_leaves_nothing(tmp_path: Path) -> None:
    """The sentence says what, by how much and what to do; a fair variant is exported as before."""
    words = (
        r"for board that amplifies noise at most 1.2 times as much as fp32, found that int8 amplifies small noise on x"
    )
    with pytest.raises(VerificationError, match=words + r" 1\.9.*; export with --quant fp32, or without --strict"):
        export(command(tmp_path, CANCELLING, "--strict", "--json"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "fair").mkdir()
    assert export(command(tmp_path / "fair", FAIR, "--strict", "--json")) == 0


def test_a_runtime_that_rounds_activations_is_measured_without_that(vit_folder: Path, tmp_path: Path) -> None:
    """onnxruntime's dynamic int8 moves the output by rounding alone at any noise; what is left is that of fp32."""
    captured = capture(str(vit_folder), "feature-extraction", tmp_path / "work")
    features = features_of(captured)
    head = append_head(captured.model, features, 3)
    prepared = Prepared(captured, [], head, 3, None, ("fp32",), features=features)
    stage = build_stage(prepared, Key("serve", "fp32", 4, ()), tmp_path / "stage")
    onnx.save(onnx.load(stage.links[0].forward), tmp_path / "plain.onnx")
    plain, dynamic = tmp_path / "plain.onnx", tmp_path / "dynamic.onnx"
    # not every runtime has a kernel for the convolution in int8
    quantize_dynamic(plain, dynamic, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)

    piece = stage.pieces[0]
    rounding = replace(piece, shipped={"forward": ir.load(tmp_path / "dynamic.onnx")})
    assert (rounds_activations([piece]), rounds_activations([rounding])) == (False, True)

    exact, variant = (Chain([Link("segment0", tmp_path / f"{name}.onnx")]) for name in ("plain", "dynamic"))
    feeds = items(prepared, 4)
    where = entrance([piece], feeds[0].runs[0])
    assert where is not None
    benches = [Bench(exact, variant, where, feed) for feed in feeds]
    mixed, apart = (measure(benches, prepared.judged, rounded=rounded) for rounded in (False, True))
    assert mixed is not None
    assert apart is not None
    assert mixed.growth > 2
    assert apart.growth == pytest.approx(1.0, abs=0.1)
    assert apart.rounding is not None
    assert 0 <= apart.rounding < 0.03
