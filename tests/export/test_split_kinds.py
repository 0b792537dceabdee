"""Splits of real architectures: a BERT, quantized, and a GPT-2 that learns by its next token; and of a plan's file."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from console.errors import BadData, UsageError
from devices.memory import MIB
from devices.plan import adapters_of
from devices.split.fleet_plan import BoardPlan, Captured, FleetPlan, TailPlan, read_fleet_plan, write_fleet_plan
from devices.split.pace import Pace, planned_of
from edge.chain import Chain as Chained
from edge.data.row import Row
from edge.features import statistics
from edge.runner import Runner
from edge.split.afar import Afar
from edge.split.channel import Ends
from edge.split.desk import serve
from edge.split.reading import reading_of
from edge.split.talk import Talk
from edge.split.wish import wish_of
from export.arguments import parser
from export.chain import Chain, links_of
from export.cli import export, verify
from export.planned import as_planned, check_plan, fleet_of, with_ranks
from export.write import read_golden
from tests.devices.split.plans import PLAN
from tests.edge.test_gradients import random_adapter
from tests.export.decoders import tiny_gpt2
from tests.export.models import tiny_bert
from tests.export.split_case import (
    LABELS,
    MICRO_BATCH,
    SHALLOW,
    TAIL,
    SplitBundles,
    mlp,
    quick_export,
    split_bundles,
    split_request,
)
from tests.export.test_split import parted
from wire.bundle import Bundle
from wire.inputs import places_of


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> SplitBundles:
    """A BERT of two blocks in int8, cut within the first one and at its end."""
    folder = tmp_path_factory.mktemp("split-bert")
    source = tiny_bert(folder / "bert", layers=2)
    return split_bundles(folder / "out", str(source), "feature-extraction", borders=(34, 52), quant="int8")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> SplitBundles:
    """A tiny GPT-2 that learns by its next token."""
    folder = tmp_path_factory.mktemp("split-gpt2")
    source = tiny_gpt2(folder / "gpt2")
    return split_bundles(folder / "out", str(source), "text-generation", (), borders=(30, 70))


def test_every_block_has_slots_where_nothing_else_is_asked_for(bert: SplitBundles) -> None:
    """Query and value of all blocks, not of the upper half: a front would have none."""
    found = [slot.name for slot in bert.tail.manifest.slots]
    assert len(found) == 4
    assert {slot.name for slot in bert.shallow.manifest.slots} < {slot.name for slot in bert.deep.manifest.slots}
    assert {slot.name for slot in bert.deep.manifest.slots} < set(found)


def test_rows_of_text_are_prepared_on_the_board(bert: SplitBundles) -> None:
    """A front has the tokenizer, the labels, and says which inputs of the model the tail reads as well."""
    for front in bert.fronts:
        split, manifest = front.manifest.split, front.manifest
        assert split is not None
        assert manifest.preprocess.kind == "text"
        assert "tokenizer.json" in {file.path for file in manifest.files}
        (border,) = split.borders
        assert set(border.inputs) <= {tensor.name for tensor in manifest.inputs}
        at = [s.name for s in bert.tail.manifest.segments].index(_at(bert.tail, border.unit))
        made = {name for segment in bert.tail.manifest.segments[at:] for name in segment.outputs}
        read = {name for segment in bert.tail.manifest.segments[at:] for name in segment.inputs}
        assert read - made == set(border.tensors) | set(border.inputs)


def _at(tail: Bundle, unit: int) -> str:
    assert tail.manifest.split is not None
    return next(border.segment for border in tail.manifest.split.borders if border.unit == unit)


def test_quantized_fronts_pass_every_check(bert: SplitBundles) -> None:
    """Fronts are held to what bundles are held to, and to the whole model besides."""
    for front in bert.fronts:
        checks = front.manifest.extra["verified"]
        assert checks["split_error"] <= 1e-5
        assert checks["chain_error"] <= 1e-5
        assert checks["dequantized_error"] <= 1e-5
        assert checks["feature_cosine"] >= 0.98
        assert "front0" in checks["gradient_error"]
        assert max(checks["gradient_error"].values()) <= 0.01


def test_a_decoder_before_its_tail_has_the_loss_of_torch(gpt2: SplitBundles) -> None:
    """The sum of the next tokens' cross entropy over a front and its tail is that of transformers."""
    from transformers import GPT2LMHeadModel

    source = gpt2.shallow.folder.parent.parent / "gpt2"
    fed, _ = read_golden(gpt2.tail.path("golden.safetensors"))
    given = {name: value for name, value in fed.items() if not name.startswith("slot.")}
    ids, mask = given["input_ids"], given["attention_mask"]
    labels = np.full(ids.shape, -100)
    labels[:, :-1] = np.where(mask[:, 1:] * mask[:, :-1] == 1, ids[:, 1:], -100)
    values = {**given, "labels": labels.reshape(-1), "weights": np.ones(labels.size, np.float32)}
    model = GPT2LMHeadModel.from_pretrained(source).eval().double()
    asked = {"input_ids": ids, "attention_mask": mask, "position_ids": np.clip(np.cumsum(mask, 1) - 1, 0, None)}
    with torch.no_grad():
        logits = model(**{name: torch.from_numpy(value) for name, value in asked.items()}).logits
    wanted = torch.from_numpy(values["labels"])
    expected = float(functional.cross_entropy(logits.flatten(0, 1), wanted, reduction="sum", ignore_index=-100))
    for front in gpt2.fronts:
        assert front.manifest.loss == gpt2.tail.manifest.loss
        assert abs(parted(front, gpt2.tail, values)["loss"] - expected) <= 1e-5 * expected


def test_a_decoder_before_its_tail_has_the_gradients_of_the_whole(gpt2: SplitBundles) -> None:
    """With adapters on either side, all gradients are those that the tail finds when it runs the whole model."""
    values, _ = read_golden(gpt2.tail.path("golden.safetensors"))
    labels = np.roll(values["input_ids"], -1, axis=1).reshape(-1)
    values |= {"labels": labels, "weights": np.linspace(0, 1, labels.size, dtype=np.float32)}
    whole = Chain(links_of(gpt2.tail))
    expected = whole.backward(whole.forward(values))
    for front in gpt2.fronts:
        got = parted(front, gpt2.tail, values)
        names = [name for name in got if name.startswith("grad.slot.")]
        assert len(names) == 2 * len(gpt2.tail.manifest.slots)
        steepest = max(np.abs(expected[name]).max() for name in names)
        assert steepest > 0
        assert max(np.abs(got[name] - expected[name]).max() for name in names) <= 1e-5 * steepest


def plan_of(case: SplitBundles, folder: Path) -> Path:
    """A plan of the MLP as the planner writes it: other ranks, the same borders, and a board with the whole model."""
    prepared = case.prepared
    units = tuple(unit.name for unit in prepared.cost(MICRO_BATCH, "train").units)

    def board(name: str, border: int, ranks: dict[str, int], trainer: str) -> BoardPlan:
        front = trainer == "split"
        return BoardPlan(
            name, 900 * MIB, trainer, border, "fp32", ranks, 2 * MICRO_BATCH, 0, 7, 0, 0, 0, 0.5,  # type: ignore[arg-type]
            before=units[border] if front else "", coding="int8" if front else "", labels="stay" if front else "",
            link_ns=3 if front else 0,
        )  # fmt: skip

    boards = (
        board(SHALLOW, 6, {"layer.0": 5}, "split"),
        board("attic", len(units), {"layer.0": 2, "layer.3": 3}, "backprop"),
    )
    seen = Captured("mlp.onnx", "", None, 3, "all-linear")
    tail = TailPlan(TAIL, 2 << 30, "fp32", (6,), {"layer.1": 7, "layer.3": 2}, 0, 0)
    made = FleetPlan(1, seen, units, MICRO_BATCH, 4, boards, {}, tail)
    write_fleet_plan(folder / "plan.json", made)
    return folder / "plan.json"


@pytest.fixture(scope="module")
def mlps(tmp_path_factory: pytest.TempPathFactory) -> SplitBundles:
    """A small MLP in two fronts and a tail."""
    return split_bundles(tmp_path_factory.mktemp("split-mlp") / "out")


def test_a_plan_decides_borders_and_ranks(mlps: SplitBundles, tmp_path: Path) -> None:
    """Fronts end where the plan says; manifests hold its ranks by slot, and how each board is to learn."""
    plan = read_fleet_plan(plan_of(mlps, tmp_path))
    options = parser().parse_args([str(mlp(tmp_path / "mlp.onnx")), "--plan", "plan.json", "--out", "out"])
    as_planned(options, plan)
    assert (options.micro_batches, options.adapter_targets) == ((MICRO_BATCH,), "all-linear")
    fleet = fleet_of(plan, None)
    assert [board.name for board in fleet.boards] == ["attic"]
    request = replace(
        split_request(options.model, "", LABELS, tmp_path / "out", (6, 12)), splits=fleet.splits, plan=plan
    )
    (front, tail), _ = quick_export(request)
    noted = [bundle.manifest.plan.extra for bundle in (front, tail)]
    assert [bundle.manifest.plan.ranks for bundle in (front, tail)] == [{"layer.0": 5}, {"layer.1": 7, "layer.3": 2}]
    assert [bundle.manifest.plan.rank for bundle in (front, tail)] == [5, 7]
    assert planned_of(noted[0]) == Pace(7e-9, 3e-9)
    assert {name: noted[0][name] for name in ("trainer", "batch", "coding", "labels")} == {
        "trainer": "split",
        "batch": 2 * MICRO_BATCH,
        "coding": "int8",
        "labels": "stay",
    }
    assert front.manifest.split is not None
    assert [border.unit for border in front.manifest.split.borders] == [6]


def test_a_board_is_planned_with_the_adapters_of_its_plan(mlps: SplitBundles, tmp_path: Path) -> None:
    """Its memory has room for each slot's own rank, neither more nor less; its rank is the largest of them."""
    plan, sites = read_fleet_plan(plan_of(mlps, tmp_path)), mlps.prepared.sites
    units = mlps.prepared.cost(MICRO_BATCH, "train").units
    widths = {site.name: site.features_in + site.features_out for site in sites}
    (parted_fleet,) = fleet_of(plan, None).splits
    found = with_ranks(parted_fleet, plan, sites)
    (front,) = found.fronts
    assert (front.board.rank, found.tail.rank) == (5, 7)
    assert adapters_of(units[:6], front.board) == 16 * 5 * widths["layer.0"]
    assert adapters_of(units, found.tail) == 16 * (7 * widths["layer.1"] + 2 * widths["layer.3"])


def test_a_front_is_made_in_the_mode_of_its_plan(mlps: SplitBundles, tmp_path: Path) -> None:
    """One that is planned to learn by differences has no backward graphs; its tail has."""
    plan = read_fleet_plan(plan_of(mlps, tmp_path))
    forward = [replace(b, trainer="forward", mode="train-forward") if b.in_front else b for b in plan.boards]
    (found,) = fleet_of(replace(plan, boards=tuple(forward)), None).splits
    assert ([front.board.mode for front in found.fronts], found.tail.mode) == (["train-forward"], "train")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": Captured("mlp.onnx", "", None, 2, "all-linear")}, "expected a model with 2 classes, found 3"),
        ({"units": ("other",)}, "expected a model with 1 units as in the plan, found 30, unit 0 at"),
    ],
)
def test_a_plan_of_another_model_is_refused(
    change: dict[str, object], words: str, mlps: SplitBundles, tmp_path: Path
) -> None:
    """Classes, units and slots must be those that were planned for."""
    plan = replace(read_fleet_plan(plan_of(mlps, tmp_path)), **change)  # type: ignore[arg-type]
    units, sites = mlps.prepared.cost(MICRO_BATCH, "train").units, mlps.prepared.sites
    with pytest.raises(BadData, match=words):
        check_plan(plan, units, sites, 3)
    strange = replace(plan, model=replace(plan.model, classes=3), units=tuple(u.name for u in units), boards=(
        replace(plan.boards[0], ranks={"layer.9": 2}),
    ))  # fmt: skip
    with pytest.raises(BadData, match=r"the slots of the plan, found none called layer\.9"):
        check_plan(strange, units, sites, 3)


def test_boards_beside_a_plan_are_refused(tmp_path: Path) -> None:
    """A plan names the boards."""
    options = parser().parse_args(["model", "--plan", "plan.json", "--device", "x", "--rank", "3", "--out", "out"])
    with pytest.raises(UsageError, match="expected --plan to say which boards there are, found --device and --rank"):
        as_planned(options, PLAN)


def test_the_command_writes_fronts_and_their_tail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One folder per board, which `verify` takes, and a line that says who ends where."""
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    line = [str(mlp(tmp_path / "mlp.onnx")), "--labels", str(tmp_path / "labels.txt"), "--quant", "fp32"]
    line += [
        "--split",
        "gate=12",
        "--tail",
        "hall",
        "--budget",
        "gate=1GiB",
        "--budget",
        "hall=1GiB",
        "--micro-batches",
        "2",
        "--no-serve-graph",
    ]
    assert export([*line, "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["gate", "hall", "keys"]
    assert "gate up to unit 12, then hall" in capsys.readouterr().out
    for name in ("gate", "hall"):
        trust = str(tmp_path / "out" / "keys" / "publisher.pub")
        assert verify([str(tmp_path / "out" / name), "--trust", trust, "--json"]) == 0


def test_statistics_of_an_exported_front_are_those_of_its_tail(bert: SplitBundles) -> None:
    """Of rows of texts, in int8, at both depths: what the tail would gather alone, had it the rows."""
    whole, ends = bert.tail.manifest, Ends()
    rows = [Row(" ".join(["red sun", "sea", "green leaf is up"][k % 3 :]), k % 3) for k in range(5)]
    start = replace(random_adapter(whole), model=whole.model.id)
    wanted, _ = statistics(Runner(bert.tail), start, rows)
    for front in bert.fronts:
        chain = Chained(bert.tail, room_bytes=1 << 30)
        given = (ends.tail, lambda wish, chain=chain: reading_of(chain, (start,), wish), lambda reading: None, 20.0)
        threading.Thread(target=serve, args=given, daemon=True).start()
        talk = Talk(ends.board, 20.0)
        talk.open(wish_of(front.manifest, "", "float32", labels=False, back=False))
        found, _ = statistics(Afar(Runner(front), talk), places_of(front.manifest, start), rows)
        talk.end()
        assert np.array_equal(found.count, wanted.count)
        assert np.abs(found.gram - wanted.gram).max() < 1e-4 * np.abs(wanted.gram).max()
