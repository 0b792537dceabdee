"""One model over two boards: what each bundle holds, and that the bundles in a row compute what the model computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from console.errors import DoesNotFit
from devices.fleet import BoardChain
from devices.memory import MIB
from devices.plan import Board
from devices.stages import Station
from devices.times import Speed
from export.across import decide
from export.chain import Chain, links_of
from export.cli import export, verify
from export.prepare import Prepared
from export.sources.captured import Captured
from export.stage import Key, build_stage
from export.stage_checks import verify_stage
from export.verify import pooled_features
from export.write import read_golden
from tests.export.runtime import hidden_of
from tests.export.test_chain import prepared_from
from wire.bundle import Bundle, open_bundle
from wire.envelope import Trust
from wire.keys import read_public_key
from wire.manifest import parse_manifest, to_bytes

FIRST, SECOND = "raspberry-pi-zero-2w", "raspberry-pi-4-2gb"
SPEED = Speed(10**9, 10**9, 10**7)


@pytest.fixture(scope="module")
def exported(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT in float32 over two boards, to train on, by the command."""
    out = tmp_path_factory.mktemp("across") / "out"
    labels = out.parent / "labels.txt"
    labels.write_text("cat\ndog\n")
    line = [str(bert_folder), "--task", "text-classification", "--labels", str(labels), "--sequence", "9"]
    line += ["--quant", "fp32", "--across", f"{FIRST},{SECOND}", "--objective", "throughput", "--out", str(out)]
    assert export([*line, "--json"]) == 0
    return out


@pytest.fixture(scope="module")
def bundles(exported: Path) -> list[Bundle]:
    """Both, with their signatures checked."""
    trust = Trust([read_public_key(exported / "keys" / "publisher.pub", "publisher")])
    return [open_bundle(exported / name, trust) for name in (f"01-{FIRST}", f"02-{SECOND}")]


def test_a_numbered_folder_per_board(exported: Path) -> None:
    """Folders are numbered in running order, and nothing else is left."""
    assert sorted(path.name for path in exported.iterdir()) == [f"01-{FIRST}", f"02-{SECOND}", "keys"]


def test_each_bundle_says_which_stage_it_is(bundles: list[Bundle]) -> None:
    """One chain of one model: its id, its boards and its objective are the same, the positions are not."""
    first, second = (bundle.manifest for bundle in bundles)
    assert first.chain is not None
    assert second.chain is not None
    assert (first.chain.id, first.chain.devices) == (second.chain.id, second.chain.devices)
    assert (first.chain.position, second.chain.position) == (0, 1)
    assert (first.chain.devices, first.chain.objective) == ((FIRST, SECOND), "throughput")
    assert first.model == second.model
    assert (first.plan.device, second.plan.device) == (FIRST, SECOND)
    for manifest in (first, second):
        assert parse_manifest(to_bytes(manifest)) == manifest


def test_a_bundle_holds_its_own_part_only(bundles: list[Bundle]) -> None:
    """Segments, slots, head, labels, tokenizer and files: each is where it is used, and nowhere else."""
    first, second = (bundle.manifest for bundle in bundles)
    names = [segment.name for manifest in (first, second) for segment in manifest.segments]
    assert names == [f"segment{i}" for i in range(len(names))]
    slots = [{slot.name for slot in manifest.slots} for manifest in (first, second)]
    assert not slots[0] & slots[1]
    assert len(slots[0] | slots[1]) == 4
    assert (first.head, first.labels) == (None, ())
    assert second.head is not None
    assert (second.head.segment, second.labels) == (names[-1], ("cat", "dog"))
    assert (first.preprocess.kind, second.preprocess.kind) == ("text", "tensors")
    assert [t.name for t in first.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert {t.name for t in second.inputs} <= {"attention_mask"}
    assert ([t.name for t in first.outputs], [t.name for t in second.outputs]) == ([], ["features", "logits"])
    boundary = first.segments[-1].outputs
    assert boundary
    assert second.segments[0].inputs[: len(boundary)] == boundary
    for bundle in bundles:
        on_disk = {path.name for path in bundle.folder.iterdir()} - {"manifest.json", "manifest.sig"}
        assert {file.path for file in bundle.manifest.files} == on_disk
        assert bundle.manifest.plan.predicted_bytes <= bundle.manifest.plan.budget_bytes


def test_the_bundles_in_a_row_compute_what_the_original_computes(
    bundles: list[Bundle], captured_bert: Captured
) -> None:
    """Features of the second bundle, fed with what the first one gives, are those of the untouched model."""
    fed, _ = read_golden(bundles[0].path("golden.safetensors"))
    raw = {name: value for name, value in fed.items() if not name.startswith("slot.")}
    given = Chain(links_of(bundles[0])).forward(raw)
    crossed = {name: given[name] for name in bundles[0].manifest.segments[-1].outputs}
    carried = {tensor.name: raw[tensor.name] for tensor in bundles[1].manifest.inputs}
    features = Chain(links_of(bundles[1])).forward({**crossed, **carried})["features"]
    session = ort.InferenceSession(str(captured_bert.original))
    hidden = session.run([hidden_of(captured_bert)], {v.name: raw[v.name] for v in session.get_inputs()})[0]
    np.testing.assert_allclose(features, pooled_features(hidden, raw), atol=1e-5, rtol=1e-5)


def test_golden_values_meet_at_the_boundary(bundles: list[Bundle], exported: Path) -> None:
    """What leaves the first bundle is what enters the second, and `verify` takes each alone."""
    pairs = [read_golden(bundle.path(bundle.manifest.golden.file)) for bundle in bundles]
    boundary = bundles[0].manifest.segments[-1].outputs
    assert set(pairs[0][1]) == set(boundary)
    assert set(pairs[1][1]) == {"features", "logits"}
    for name in boundary:
        np.testing.assert_array_equal(pairs[0][1][name], pairs[1][0][name])
    for bundle in bundles:
        assert verify([str(bundle.folder), "--trust", str(exported / "keys" / "publisher.pub"), "--json"]) == 0


def test_boards_of_several_formats_and_segments(captured_bert: Captured, tmp_path: Path) -> None:
    """A board with two int8 segments before one in float32: each share has its own golden values and formats."""
    prepared = prepared_from(captured_bert)
    positions = prepared.cost(4, "train").nodes((20, 40))
    key = Key("train", "int8", 4, positions, ("int8", "int8", "fp32"), (2, 1))
    stage = build_stage(prepared, key, tmp_path)
    verify_stage(prepared, stage)
    first, second = stage.shares()
    assert [len(first.pieces), len(second.pieces)] == [2, 1]
    assert any(report.format == "int8" for report in first.pieces[0].reports["forward"])
    assert {report.format for report in second.pieces[0].reports["forward"]} == {"fp32"}
    fed, fetched = read_golden(second.golden)
    values = Chain(second.links).forward(fed)
    for name, expected in fetched.items():
        np.testing.assert_allclose(values[name], expected, atol=1e-6)
    entering = set(first.pieces[-1].segment.leaving)
    assert entering <= set(fed)
    assert entering == set(read_golden(first.golden)[1])


def test_a_chain_that_does_not_fit_is_refused_in_words(captured_bert: Captured) -> None:
    """The board that is short is named before anything is built."""
    prepared = prepared_from(captured_bert)
    stations = tuple(Station(Board(name, 40 * MIB, "serve", rank=2), SPEED) for name in ("a", "b"))
    with pytest.raises(DoesNotFit, match=r"across a, b, .*board 1, a \(40\.0 MiB\)"):
        decide(prepared, BoardChain("", stations))


def test_a_chain_of_more_boards_than_one_micro_batch_allows(captured_bert: Captured) -> None:
    """The numbers of smaller micro-batches are only counted when the largest does not settle it."""
    prepared: Prepared = prepared_from(captured_bert)
    stations = tuple(Station(Board(name, 1 << 40, "serve", rank=2), SPEED) for name in ("a", "b", "c"))
    plan = decide(prepared, BoardChain("", stations))
    assert (len(plan.stages), plan.micro_batch) == (3, 8)
    assert list(prepared._whole) == [8]
