"""The bench of a decoder within a board's memory: its arithmetic on made-up numbers, and a run on a tiny Llama."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.board.figures import HEADER, Figures, as_json, cells, figures_of, ratios
from bench.board_llama import main
from bench.small_llama import make_llama

MIB = 2**20


def said(peak: int, seconds: list[float], opened: int = 0) -> dict[str, Any]:
    """What a process says: its memory, and steps of so many seconds, a quarter of which is opening."""
    steps = [
        {"seconds": s, "wall_s": 2 * s, "opening_s": s / 4, "opened_bytes": opened, "loss": 5.0 - k}
        for k, s in enumerate(seconds)
    ]
    memory = {"base_bytes": MIB, "peak_bytes": peak, "anon_bytes": peak // 2, "pss_bytes": peak // 4}
    return {**memory, "learned": 1000, "segments": 2, "micro_batch": 1, "steps": steps}


def row(way: str, *found: dict[str, Any]) -> Figures:
    """A row of a bundle whose budget is 100 MiB."""
    return figures_of("whole", way, 100 * MIB, found)


def test_memory_is_the_largest_and_time_the_median_of_later_steps() -> None:
    """A process's first step is not timed, and the worst process decides whether the budget holds."""
    one = row("backprop", said(90 * MIB, [9.0, 1.0, 2.0]), said(101 * MIB, [9.0, 3.0, 4.0], 7))
    assert (one.peak_bytes, one.anon_bytes, one.holds) == (101 * MIB, 101 * MIB // 2, False)
    assert (one.step_s, one.wall_s, one.opening_s, one.opened_bytes) == (2.5, 5.0, 0.625, 7)
    assert one.losses == (5.0, 4.0, 3.0)
    assert row("backprop", said(100 * MIB, [9.0, 1.0])).holds
    assert row("backprop", said(MIB, [9.0])).step_s == 9.0


def test_ratios_are_to_inference_with_the_same_bundle() -> None:
    """Where inference of the bundle was not measured there is no ratio; a row says whether its budget was missed."""
    base, step = row("inference", said(50 * MIB, [1.0, 1.0])), row("spry", said(125 * MIB, [1.0, 3.0]))
    other = figures_of("apart", "spry", MIB, [said(MIB, [1.0])])
    every = [base, step, other]
    assert ratios(step, every) == (2.5, 3.0)
    assert ratios(other, every) is None
    told = dict(zip(HEADER, cells(step, every), strict=True))
    assert (told["peak"], told["of budget"]) == ("125.0 MiB", "125% of 100.0 MiB, MISSED")
    assert cells(base, every)[-1] == "5.000"
    assert cells(step, every)[-1] == "5.000 to 4.000"
    written = as_json(step, every)
    assert json.loads(json.dumps(written)) == written
    assert (written["peak_ratio"], written["time_ratio"], written["holds"]) == (2.5, 3.0, False)


@pytest.mark.heavy
def test_a_tiny_llama_learns_by_every_trainer(tmp_path: Path) -> None:
    """A bundle is exported for the board; each way starts at the same loss, backprop lowers it, all stay in budget.

    Where the trunk is kept, a step opens nothing: the session above it stays.
    """
    make_llama(tmp_path / "llama", layers=2, width=64, vocabulary=400)
    command = ["--model", str(tmp_path / "llama"), "--bundles", str(tmp_path / "bundles"), "--only", "apart"]
    assert main([*command, "--steps", "3", "--rounds", "1", "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["found"]
    by_way = {one["way"]: one for one in found}
    assert list(by_way) == ["inference", "backprop", "backprop, cached", "spry"]
    first = by_way["inference"]["losses"][0]
    assert by_way["backprop"]["losses"][0] == pytest.approx(first, rel=1e-4)
    assert by_way["backprop, cached"]["losses"] == pytest.approx(by_way["backprop"]["losses"], rel=1e-3)
    assert by_way["backprop"]["losses"][-1] < first
    assert by_way["spry"]["losses"][0] == pytest.approx(first, rel=0.01)
    assert by_way["backprop, cached"]["opened_bytes"] == 0 < by_way["backprop"]["opened_bytes"]
