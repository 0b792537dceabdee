"""The plan of a fleet as a file: whole, strict, and open to what it does not know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.errors import BadData, StorageError
from devices.split.fleet_plan import FleetPlan, parse_fleet_plan, plan_bytes, read_fleet_plan, write_fleet_plan
from tests.devices.split.plans import BARN, GATE, PLAN, TAIL
from wire.record import plain


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    """What is written comes back, and is written as the same bytes."""
    write_fleet_plan(tmp_path / "plan.json", PLAN)
    found = read_fleet_plan(tmp_path / "plan.json")
    assert found == PLAN
    assert plan_bytes(found) == (tmp_path / "plan.json").read_bytes()


def test_fields_of_others_are_kept() -> None:
    """A field that this version does not know is written back, at every level."""
    mapping = plain(PLAN)
    mapping["from_the_future"] = mapping["boards"][0]["more"] = mapping["tail"]["more"] = [1, {"a": 2}]
    again = json.loads(plan_bytes(parse_fleet_plan(json.dumps(mapping).encode(), "p")))
    assert again == mapping


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (replace(PLAN, boards=()), "boards: expected one at least"),
        (replace(PLAN, boards=(GATE, replace(BARN, device="gate"))), "gate: found 2 times"),
        (replace(PLAN, tail=None), "tail: expected one for gate, found none"),
        (replace(PLAN, boards=(BARN,)), "tail: expected none"),
        (replace(PLAN, tail=replace(TAIL, borders=(1,))), "tail.borders: expected those of the fronts, 2, found 1"),
        (replace(PLAN, tail=replace(TAIL, ranks={})), "tail.ranks: expected one slot at least"),
        (replace(PLAN, importance={"a": 1.5}), "importance of a: expected 0 to 1, found 1.5"),
        (replace(PLAN, boards=(replace(GATE, border=9, before=""), BARN)), "border: expected at most 4"),
        (replace(PLAN, boards=(replace(GATE, border=4, before=""), BARN)), "trainer split is for a front"),
        (replace(PLAN, boards=(GATE, replace(BARN, border=3))), "trainer backprop is for the whole model"),
        (replace(PLAN, boards=(replace(GATE, before="other"), BARN)), "before: expected 'encoder.layer.1'"),
        (replace(PLAN, boards=(replace(GATE, cuts=(2,)), BARN)), "cuts: expected ascending numbers between 0 and 2"),
        (replace(PLAN, boards=(replace(GATE, coding=""), BARN)), "coding and labels belong to a front"),
        (replace(PLAN, boards=(GATE, replace(BARN, mode="train-forward"))), "trainer backprop needs mode train"),
        (replace(PLAN, boards=(replace(GATE, mode="train-forward"), BARN)), "trainer split needs mode train"),
        (replace(PLAN, boards=(replace(GATE, batch=6), BARN)), "batch: expected a multiple of the micro-batch 4"),
        (replace(PLAN, boards=(replace(GATE, ranks={}), BARN)), "ranks: expected one slot at least"),
        (replace(PLAN, boards=(replace(GATE, ranks={"a": 0}), BARN)), "ranks.a: expected 1 to 1024, found 0"),
    ],
)
def test_a_contradiction_is_named(wrong: FleetPlan, words: str) -> None:
    """A plan that cannot be true is refused in words that name the place."""
    with pytest.raises(BadData) as refusal:
        parse_fleet_plan(plan_bytes(wrong), "plan.json")
    assert words in str(refusal.value)
    assert "plan again" in str(refusal.value)


def test_all_problems_are_named_at_once() -> None:
    """Two fields of two boards are told in one refusal."""
    mapping: dict[str, Any] = plain(PLAN)
    mapping["boards"][0]["border"], mapping["boards"][1]["trainer"] = 0, "magic"
    with pytest.raises(BadData, match=r"boards\[0\]\.border.*boards\[1\]\.trainer"):
        parse_fleet_plan(json.dumps(mapping).encode(), "plan.json")


def test_what_is_no_plan_is_refused(tmp_path: Path) -> None:
    """Text that is not JSON, a plan of a newer version, and a file that is not there are each a sentence."""
    with pytest.raises(BadData, match="expected a plan in JSON"):
        parse_fleet_plan(b"{", "plan.json")
    with pytest.raises(BadData, match="expected a plan of version 1 in plan.json, found 2"):
        parse_fleet_plan(plan_bytes(replace(PLAN, version=2)), "plan.json")
    with pytest.raises(StorageError, match="expected a plan at"):
        read_fleet_plan(tmp_path / "none.json")
