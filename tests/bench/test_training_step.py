"""The bench of a training step: its arithmetic on numbers made by hand, and one run on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.training.children import Taken
from bench.training.judged import THEIRS, Ratios, as_json, bars, cells, ratios
from bench.training_step import asked, main
from console.errors import UsageError
from tests.export import models

MIB = 2**20
GOOD = Ratios(peak=0.25, above=0.7, time=1.1, time_least=1.0, time_most=1.2, wall=1.3)


def taken(peak: int, base: int, cpu: list[list[float]]) -> Taken:
    """Two processes of the same memory, and rounds of steps."""
    return Taken(
        [base] * 2, [peak] * 2, [base] * 2, [peak - base] * 2, [[2 * s for s in r] for r in cpu], cpu, [2.0, 1]
    )


def test_times_are_compared_round_by_round() -> None:
    """A round in which everything was slow counts as one ratio, not as slow steps of one side."""
    ours = taken(100 * MIB, 40 * MIB, [[1.0, 1.0, 9.0], [10.0, 10.0, 10.0], [3.0, 3.0, 3.0]])
    theirs = taken(400 * MIB, 300 * MIB, [[2.0, 2.0, 2.0], [20.0, 10.0, 20.0], [2.0, 2.0, 2.0]])
    found = ratios(ours, theirs)
    assert found == Ratios(peak=0.25, above=0.6, time=0.5, time_least=0.5, time_most=1.5, wall=0.5)


def test_bars_follow_the_variant() -> None:
    """Cut batches have bars of their own for memory, rounded activations for time; float32 is only shown."""
    assert all(bar.met for bar in bars("int8", "int8", False, GOOD))
    assert [bar.met for bar in bars("int8/2", "int8", True, GOOD)] == [False, False, True]
    assert [bar.met for bar in bars("int8a", "int8a", False, GOOD)] == [True, True, False]
    assert [bar.met for bar in bars("int8a", "int8a", False, replace(GOOD, time=0.9, peak=0.31))] == [False, True, True]
    assert list(bars("fp32", "fp32", False, GOOD)) == []


def test_a_case_reads_as_rows_tokens_and_recipes(tmp_path: Path) -> None:
    """`8x64` with `int8a/2` is four runs of two rows, whose forward half is rounded; nonsense is refused."""
    case = asked("8x64", ["int8", "int8a/2", "fp32"], tmp_path)
    assert (case.rows, case.sequence, case.name) == (8, 64, "8x64")
    made = {name: (r.quant, r.batch, r.activations, r.name) for name, r in case.recipes.items()}
    assert made["int8"] == ("int8", 8, "float32", "int8-8x64")
    assert made["int8a/2"] == ("int8", 2, "int8", "int8a-2x64")
    for wrong in ("8", "8x", "x64", "0x64", "axb"):
        with pytest.raises(UsageError, match="expected a case as ROWSxTOKENS"):
            asked(wrong, ["int8"], tmp_path)
    for wrong in ("int4", "int8/3", "int8/x", "int8/0"):
        with pytest.raises(UsageError, match="expected a variant of int8, int8a, fp32"):
            asked("8x64", [wrong], tmp_path)


def test_what_was_measured_is_told_and_written() -> None:
    """A row has both sizes and ratios, torch's own has ones; the file holds every number and whether bars are met."""
    theirs, ours = taken(400 * MIB, 300 * MIB, [[0.002]]), taken(100 * MIB, 40 * MIB, [[0.001]])
    found = ratios(ours, theirs)
    row = cells("int8", ours, found)
    assert row[:8] == ["int8", "100.0 MiB", "0.250", "60.0 MiB", "0.600", "60.0 MiB", "1", "0.50"]
    assert cells(THEIRS, theirs, None)[2] == "1"
    judged = list(bars("int8", "int8", False, found))
    table = as_json("8x64", {"int8": ours}, {"int8": found}, judged)
    assert json.loads(json.dumps(table)) == table
    assert table["ratios"]["int8"]["above"] == 0.6
    assert table["bars"][2] == {"variant": "int8", "what": "time of a step", "most": 1.15, "found": 0.5, "met": True}


@pytest.mark.heavy
def test_both_sides_make_the_same_steps(tmp_path: Path) -> None:
    """A tiny encoder is exported in two variants and trained beside PEFT: losses agree, all figures are there."""
    folder = models.tiny_bert(tmp_path / "bert")
    command = ["2x8", "--variants", "fp32", "int8a/1", "--model", str(folder), "--rounds", "1", "--turns", "2"]
    main([*command, "--bundles", str(tmp_path / "bundles"), "--out", str(tmp_path / "found.json")])
    (case,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["cases"]
    losses = {name: one["losses"] for name, one in case["measured"].items()}
    assert losses["fp32"] == pytest.approx(losses[THEIRS], rel=1e-4)
    assert losses["int8a/1"] == pytest.approx(losses[THEIRS], rel=0.05)
    assert losses["fp32"][0] > losses["fp32"][-1]
    assert all(len(one["cpu_s"]) == 1 and len(one["cpu_s"][0]) == 2 for one in case["measured"].values())
    assert set(case["ratios"]) == {"fp32", "int8a/1"}
    assert {bar["variant"] for bar in case["bars"]} == {"int8a/1"}
    assert all(0 < one["peak"] < 1 for one in case["ratios"].values())
