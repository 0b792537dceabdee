"""Several micro-batches and lengths of text in one bundle, over one file of weights per segment."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from console.errors import BadData, UsageError, VerificationError
from edge import load
from edge.runner import Runner
from export.arguments_plan import counts
from export.bucket_checks import check_parts, split_rows
from export.buckets import same_cuts
from export.chain import Chain, chain_of, links_of
from export.cli import export, verify
from export.cut import crossing
from export.feeds import targets
from export.fold import freeze
from export.sources.captured import Captured
from export.write import read_golden, seal_bundle
from tests.export.test_pipeline import LABELS, command
from wire.adapter import Adapter
from wire.bundle import Bundle, open_bundle
from wire.keys import read_private_key
from wire.kinds.head import Head
from wire.kinds.lora import Lora

TEXTS = ["the cat", "a dog and a tree in the park by the river", "tree", "cat dog", "the river and the park"]
SMALL = ("int8", "--micro-batches", "4,1", "--no-serve-graph")
LARGE = ("fp32", "--micro-batches", "1,4", "--sequence", "5,9")
CASES = [pytest.param(SMALL, id="two"), pytest.param(LARGE, id="four", marks=pytest.mark.heavy)]


@pytest.fixture(scope="module", params=CASES)
def out(request: pytest.FixtureRequest, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with several micro-batches, and perhaps with two lengths of texts, made by the command."""
    out = tmp_path_factory.mktemp("buckets") / "out"
    more = [*request.param, "--budget", "small=200MiB", "--device", "small", "--json"]
    assert export(command(bert_folder, out, "--quant", *more)) == 0
    return out


@pytest.fixture(scope="module")
def bundle(out: Path) -> Bundle:
    """The bundle of it."""
    return open_bundle(out / "small", None)


def names_of(bundle: Bundle) -> list[str]:
    """Its buckets."""
    return [bucket.name for bucket in bundle.manifest.buckets]


def places(path: Path) -> dict[str, tuple[str, int, int]]:
    """Where the tensors of a graph lie that have a page or more, by name."""
    tensors = {str(v.name): v.const_value for v in ir.load(path).graph.initializers.values()}
    found = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, ir.ExternalTensor)}
    return {name: (str(t.location), t.offset or 0, t.length or 0) for name, t in found.items()}


def test_every_bucket_reads_the_same_bytes(bundle: Bundle) -> None:
    """Each weight of a segment lies at one place of one file, whichever graph of whichever bucket reads it."""
    m, buckets = bundle.manifest, names_of(bundle)
    assert buckets in (["b4s9", "b1s9"], ["b4s9", "b4s5", "b1s9", "b1s5"])
    assert m.plan.micro_batch == 4
    for segment in m.segments:
        kinds = {graph.kind for graph in segment.graphs}
        assert {(g.kind, g.bucket) for g in segment.graphs} == {(kind, name) for kind in kinds for name in buckets}
        for kind in kinds:
            of_kind = [places(bundle.path(graph.file)) for graph in segment.graphs if graph.kind == kind]
            shared = set.intersection(*(set(found) for found in of_kind))
            assert sum(of_kind[0][name][2] for name in shared) >= 0.9 * sum(at[2] for at in of_kind[0].values())
            assert all(found[name] == of_kind[0][name] for found in of_kind for name in shared)


def test_every_bucket_was_verified(bundle: Bundle) -> None:
    """The manifest holds, for each further bucket, the distance to the original and the errors of gradients."""
    found = bundle.manifest.extra["verified"]["buckets"]
    assert list(found) == names_of(bundle)[1:]
    for name, checks in found.items():
        assert checks["chain_error"] <= 1e-5
        assert max(checks["gradient_error"].values()) <= 0.01
        assert checks.get("serve_error", 0) <= 1e-5
        assert ("bucket_error" in checks) == name.endswith("s9")
        assert checks.get("bucket_error", 0) <= 1e-5
    memory = [graph.memory for segment in bundle.manifest.segments for graph in segment.graphs]
    assert all(one.measured_bytes and one.predicted_bytes for one in memory)


def adapter_of(run: Runner) -> Adapter:
    """Factors and a head that are not zero."""
    generator = np.random.default_rng(4)
    m = run.manifest
    assert m.head is not None

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(0, 0.3, shape).astype(np.float32)

    lora = {s.name: Lora(normal(s.features_in, 2), normal(2, s.features_out), 1.0) for s in m.slots}
    head = Head(normal(m.head.features, len(LABELS)), normal(len(LABELS)))
    return Adapter(m.model.id, "0" * 64, lora, heads={0: head})


def test_a_step_is_the_same_through_every_bucket(out: Path) -> None:
    """Gradients of a step, of rows of different lengths, do not depend on the largest micro-batch."""
    run = load(out / "small").runner
    adapter, pairs = adapter_of(run), [(k, k % 3) for k in range(len(TEXTS))]
    alone = Runner(only(run.bundle, "b4s9"))

    expected = alone.gradients(alone.ready(TEXTS, training=True), adapter, pairs)
    steepest = max(float(np.abs(g).max()) for g in expected.by_input.values())
    for micro_batch in {bucket.batch for bucket in run.manifest.buckets}:
        ready = run.ready(TEXTS, training=True, micro_batch=micro_batch)
        assert ready.bucket.batch == micro_batch
        found = run.gradients(ready, adapter, pairs)
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert found.by_input.keys() == expected.by_input.keys()
        for name, gradient in expected.by_input.items():
            np.testing.assert_allclose(found.by_input[name], gradient, atol=1e-5 * steepest, err_msg=name)
    np.testing.assert_allclose(run.forward(TEXTS, adapter).features, alone.forward(TEXTS, adapter).features, atol=1e-5)


def only(bundle: Bundle, bucket: str) -> Bundle:
    """The bundle as if it had one bucket."""
    m = bundle.manifest
    segments = tuple(replace(s, graphs=tuple(g for g in s.graphs if g.bucket == bucket)) for s in m.segments)
    return replace(bundle, manifest=replace(m, segments=segments, buckets=m.buckets[:1]))


def test_a_bundle_of_several_buckets_is_verified_again(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`verify` computes the golden values with the plan's bucket and measures the graphs of all."""
    capsys.readouterr()
    assert verify([str(out / "small"), "--trust", str(out / "keys" / "publisher.pub"), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["memory"]
    others = names_of(open_bundle(out / "small", None))[1:]
    assert {one["file"].split(".", 2)[2] for one in measured} == {"onnx", *(f"{name}.onnx" for name in others)}


def test_a_bucket_without_a_graph_is_refused(out: Path, tmp_path: Path) -> None:
    """A signed bundle that lacks one graph of one bucket is not opened."""
    key, m = read_private_key(out / "keys" / "publisher.key"), open_bundle(out / "small", None).manifest
    first = m.segments[0]
    graphs = tuple(g for g in first.graphs if g.bucket != "b1s9")
    broken = replace(m, segments=(replace(first, graphs=graphs), *m.segments[1:]))
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in (out / "small").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    seal_bundle(folder, broken, key)
    with pytest.raises(BadData, match="segment0 has no forward graph for bucket 'b1s9'"):
        open_bundle(folder, None)


def test_a_bucket_that_computes_something_else_is_found(bundle: Bundle) -> None:
    """Sums over the parts of a smaller bucket are held against the larger one: another row, and they differ."""
    fed, _ = read_golden(bundle.path("golden.safetensors"))
    fed |= targets(4, len(LABELS), 3)
    chains = [Chain(links_of(bundle, name)) for name in ("b4s9", "b1s9")]
    shapes = tuple({n: (rows, 9) for n in fed if n.startswith(("input", "attention", "token"))} for rows in (4, 1))
    names = [s.a for s in bundle.manifest.slots]
    parts = split_rows(fed, (shapes[0], shapes[1]), 4, 1)
    assert parts is not None
    formats = {str(record["format"]) for record in bundle.manifest.quantization}
    assert check_parts(chains[0], chains[1], fed, parts, names, formats) <= 1e-5
    parts[1]["weights"] = parts[1]["weights"] * np.float32(1.5)
    with pytest.raises(VerificationError, match="the gradient of .* of two buckets"):
        check_parts(chains[0], chains[1], fed, parts, names, formats)


def test_rows_that_do_not_divide_are_filled_up_without_weight() -> None:
    """Five rows in parts of two: the last part repeats the fifth, which counts once."""
    values: dict[str, Any] = {"x": np.arange(5), "weights": np.ones(5, np.float32), "A": np.ones((2, 2))}
    parts = split_rows(values, ({"x": (5,), "A": (2, "r")}, {"x": (2,), "A": (2, "r")}), 5, 2)
    assert parts is not None
    assert [part["x"].tolist() for part in parts] == [[0, 1], [2, 3], [4, 4]]
    assert [part["weights"].tolist() for part in parts] == [[1, 1], [1, 1], [1, 0]]
    assert split_rows(values, ({"x": (5, 9)}, {"x": (2, 5)}), 5, 2) is None


def test_labels_of_tokens_go_with_their_rows() -> None:
    """Of a decoder three rows of two tokens have six labels and weights; the repeated row has none that count."""
    values: dict[str, Any] = {
        "ids": np.arange(6).reshape(3, 2),
        "labels": np.arange(6),
        "weights": np.ones(6, np.float32),
    }
    parts = split_rows(values, ({"ids": (3, 2)}, {"ids": (2, 2)}), 3, 2)
    assert parts is not None
    assert [part["labels"].tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 4, 5]]
    assert [part["weights"].tolist() for part in parts] == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_cuts_are_found_again_in_another_bucket(captured_bert: Captured) -> None:
    """The same tensors cross in a graph of another batch and length, at every cut; of another model none does."""
    model, other = freeze(captured_bert.model, 4, 9), freeze(captured_bert.model, 1, 5)
    for position in (20, 40, len(model.graph) // 2):
        found = same_cuts(model, [position], other)
        assert found is not None
        names = [[v.name for v in values] for values in crossing(other.graph, found)]
        assert names == [[v.name for v in values] for values in crossing(model.graph, [position])]
    for node in other.graph:
        for value in node.outputs:
            value.name = f"other/{value.name}"
    assert same_cuts(model, [20], other) is None


def test_lists_of_sizes_are_read_or_refused() -> None:
    """Sizes come in any order, once or twice; anything else is refused with what was found."""
    assert counts("2, 8,1,8") == (8, 2, 1)
    for text in ("", "0", "1,,2", "-1", "2.5", "eight", "9999999999"):
        with pytest.raises(UsageError, match="expected whole numbers of 1 to"):
            counts(text)


@pytest.mark.heavy
def test_larger_micro_batches_than_fit_are_left_out_and_said(bert_folder: Path, tmp_path: Path) -> None:
    """What does not fit into the plan's segments gets no graphs, and the reasons of the plan say so."""
    more = ["--micro-batches", "4096,1", "--budget", "small=66MiB", "--device", "small", "--json"]
    assert export(command(bert_folder, tmp_path / "out", "--quant", "fp32", "--no-serve-graph", *more)) == 0
    m = open_bundle(tmp_path / "out" / "small", None).manifest
    assert [bucket.name for bucket in m.buckets] == ["b1s9"]
    assert any("no bucket of micro-batch 4096" in reason for reason in m.plan.extra["reasons"])


def test_a_chain_of_each_bucket_gives_what_its_rows_give(bundle: Bundle) -> None:
    """The rows of the golden input, one by one through the smallest bucket, have the features of the whole."""
    fed, fetched = read_golden(bundle.path("golden.safetensors"))
    rows = [n for n in fed if n.startswith(("input", "attention", "token"))]
    chain = chain_of(bundle, "b1s9")
    found = [chain.forward({**fed, **{n: fed[n][k : k + 1] for n in rows}})["features"] for k in range(4)]
    np.testing.assert_allclose(np.concatenate(found), fetched["features"], atol=1e-5)
