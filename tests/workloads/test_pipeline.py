"""Every workload as its user would export it: one bundle per unequal board, one chain over two boards."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.workloads import PAGE, alone_row, is_told, refusal_row
from console.errors import DoesNotFit
from devices.memory import MIB
from devices.plan import Board, needs
from export.prepare import Wanted, prepare
from tests.workloads.exported import ACROSS, LARGE, SMALL, Exported
from tests.workloads.registry import REFUSED, Workload
from tests.workloads.rows import assert_installed_agrees, assert_oldest_agrees


def test_boards_are_cut_for_as_they_are_sized(exported: Exported) -> None:
    """The large board needs no cut, the small one does, a chain has a stage for each; what was measured fits all."""
    rows = exported.rows
    assert {name: len(bundles) for name, bundles in rows.items()} == {LARGE: 1, SMALL: 1, ACROSS: 2}
    assert len(rows[LARGE][0].manifest.segments) == 1 < len(rows[SMALL][0].manifest.segments)
    for made in exported.made:
        assert max(made.manifest.plan.predicted_bytes, made.measured_bytes) <= made.manifest.plan.budget_bytes


def test_rows_of_bundles_compute_the_whole(exported: Exported, built: Path) -> None:
    """What boards run, with the installed runtime: each row of bundles gives the outputs of the untouched model."""
    assert_installed_agrees(exported, built)


def test_the_oldest_runtime_computes_the_whole(
    exported: Exported, built: Path, floor_python: Path, tmp_path: Path
) -> None:
    """The same bundles under the oldest runtime that boards have, with the options that their manifests say."""
    assert_oldest_agrees(exported, built, floor_python, tmp_path)


def test_the_page_says_what_was_made(exported: Exported) -> None:
    """docs/workloads.md has the workload's row, but for what was measured."""
    row = alone_row(exported)
    assert is_told(row, PAGE.read_text(encoding="utf-8")), f"run python -m bench.workloads: {row}"


@pytest.mark.parametrize("workload", REFUSED, ids=lambda workload: workload.name)
def test_what_lies_inside_one_node_is_not_cut(workload: Workload, built: Path, tmp_path: Path) -> None:
    """A net inside If or Loop is refused by the node's name where it would have to be cut; whole, it is taken."""
    prepared = prepare(Wanted(workload.source(built), targets=""), ("fp32",), ("serve",), tmp_path)
    [unit], batch = prepared.cost(prepared.batches[-1], "serve").units, prepared.batches[-1]
    whole = needs([unit], Board("any", 0, "serve", "fp32", 1), (), batch)[0].total
    with pytest.raises(DoesNotFit, match=rf"{workload.refused} '\w+' \(.+ of weights\), which cannot be cut inside"):
        prepared.decide(Board("small", whole - 1, "serve", "fp32", 1))
    decision, _ = prepared.decide(Board("large", whole + MIB, "serve", "fp32", 1))
    assert decision.cuts == ()
    assert is_told(refusal_row(workload, built), PAGE.read_text(encoding="utf-8")), "run python -m bench.workloads"
