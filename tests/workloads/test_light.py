"""Real topologies of nine nets over two real boards, the smallest one first."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.workloads import BOARDS, PAGE, TOO_LARGE, ZERO, across_row, is_told
from console.errors import DoesNotFit
from devices.fleet import known_boards
from devices.plan import Board
from devices.profile import load
from export.prepare import Wanted, prepare
from tests.workloads.exported import ACROSS, Exported, export_across
from tests.workloads.registry import LIGHT, Workload
from tests.workloads.rows import assert_installed_agrees, assert_oldest_agrees

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="session", params=LIGHT, ids=lambda workload: workload.name)
def across(request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """One net over a Zero and a Pi 4; gone when its tests are done."""
    workload: Workload = request.param
    out = tmp_path_factory.mktemp(workload.name)
    yield export_across(workload, built, out, BOARDS)
    shutil.rmtree(out)


def test_both_boards_have_a_part_that_fits(across: Exported) -> None:
    """Each board has segments of its own, and their measured memory is within its profile's budget."""
    bundles = across.rows[ACROSS]
    assert [bundle.manifest.plan.device for bundle in bundles] == list(BOARDS)
    for made, name in zip(across.made, BOARDS, strict=True):
        assert made.manifest.segments
        assert made.manifest.plan.budget_bytes == load(name).budget_bytes
        assert made.measured_bytes <= made.manifest.plan.budget_bytes


def test_the_boards_compute_the_whole(across: Exported, built: Path) -> None:
    """Both bundles in a row give what the untouched file gives, with the installed runtime."""
    assert_installed_agrees(across, built)


def test_the_oldest_runtime_computes_the_whole(
    across: Exported, built: Path, floor_python: Path, tmp_path: Path
) -> None:
    """The same bundles under the oldest runtime that boards have."""
    assert_oldest_agrees(across, built, floor_python, tmp_path)


def test_the_page_says_what_was_made(across: Exported) -> None:
    """docs/workloads.md has the net's row, but for what was measured."""
    row = across_row(across)
    assert is_told(row, PAGE.read_text(encoding="utf-8")), f"run python -m bench.workloads: {row}"


def test_a_layer_that_no_small_board_holds_is_refused_with_one_that_does(built: Path, tmp_path: Path) -> None:
    """A layer of VGG 19 has 411 MB: no cut helps a Zero, and the board that is named instead takes the model."""
    [workload] = [workload for workload in LIGHT if workload.name == TOO_LARGE]
    prepared = prepare(Wanted(workload.source(built), targets=""), ("fp32",), ("serve",), tmp_path)
    with pytest.raises(DoesNotFit, match=f"{ZERO} .* beside the runtime 392.0 MiB of weights") as refusal:
        prepared.decide(Board(ZERO, load(ZERO).budget_bytes, "serve", "fp32"), known_boards())
    named = re.search(r"of the known boards ([^ ,]+)", str(refusal.value))
    assert named is not None
    prepared.decide(Board(named.group(1), load(named.group(1)).budget_bytes, "serve", "fp32"))
