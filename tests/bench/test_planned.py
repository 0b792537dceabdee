"""The bench of plans: real workers over a link of a given rate, and what counts as planned well."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bench.planned.given import given, texts
from bench.planned.judged import Row
from bench.planned.runs import Found
from bench.planned.serving import Answering
from bench.planned.workers import Worker, request, train_halves
from devices.memory import MIB
from tests.edge.boards import make_board
from tests.hub.split_farm import SEGMENTS, halve

ROW = Row("gate", "front", 50 * MIB, 49 * MIB, 40 * MIB, (90 * MIB,), 1.0, (1.4,), (1.25,))


def test_halves_train_over_a_link_of_a_given_rate(tmp_path: Path) -> None:
    """A front's worker and its tail's do all steps; what crossed took as long as its bytes at that rate."""
    board = make_board(tmp_path, "whole", segments=SEGMENTS, device="server")
    front, tail = tmp_path / "front", board.bundle
    halve(tail, board.publisher, "tail", {"gate": 1})
    shutil.copytree(tail, front)
    halve(front, board.publisher, "front", {"gate": 1})
    known, split = given(tmp_path / "given", tail, 12, 6), {"key": "", "coding": "float32"}
    told = {"steps": 3, "batch": 4, "learning_rate": 0.01}
    jobs = (
        request(known, front, "r1-train-gate", tmp_path / "one", {**told, "split": {**split, "tail": "hall"}}),
        request(known, tail, "r1-train-gate", tmp_path / "two", {**told, "split": {**split, "board": "gate"}}, "tail"),
    )
    with closing(Worker()) as one, closing(Worker()) as other:
        bases = (one.ready(tmp_path), other.ready(tmp_path))
        here, there, crossed = train_halves((one, other), jobs, bases, 4000)
    assert here.metrics["steps"] == there.metrics["steps"] == 3
    assert crossed == here.metrics["crossed_up_bytes"] + here.metrics["crossed_down_bytes"] > 0
    assert 3 * here.metrics["seconds_per_step"] >= crossed / 4000
    assert min(here.peak_bytes - here.base_bytes, there.peak_bytes - there.base_bytes) > 0


def test_requests_are_answered_by_the_process_of_an_agent(tmp_path: Path) -> None:
    """Every request but the first is timed, and the model is in the high-water mark."""
    board = make_board(tmp_path, "whole")
    known = given(tmp_path / "given", board.bundle, 4, 6)
    with closing(Answering()) as answering:
        served = answering.serve(known.place(board.bundle), known, texts(board.bundle, 3, 6))
    assert (len(served.wall_s), len(served.cpu_s)) == (2, 2)
    assert served.peak_bytes > served.base_bytes > 0


def test_time_is_that_of_the_processor_at_the_pace_of_the_probe() -> None:
    """A machine that is twice as slow makes steps of twice the time; the link is as fast as before."""
    found = Found()
    found.time(9.0, front=2.0, tail=4.0, link=1.0)
    found.paced(2.0)
    found.time(9.0, front=1.0, tail=1.0, link=1.0)
    found.paced(1.0)
    assert found.own_s == [4.0, 3.0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ROW, "holds"),
        (replace(ROW, own_s=(1.26,)), "time missed"),
        (replace(ROW, own_s=(0.75,), planned_bytes=55 * MIB), "holds"),
        (replace(ROW, own_s=(0.7,), planned_bytes=56 * MIB), "memory and time missed"),
        (replace(ROW, planned_bytes=0, planned_s=0.0), "holds"),
        (replace(ROW, planned_bytes=30 * MIB, most_bytes=50 * MIB), "holds"),
        (replace(ROW, planned_bytes=30 * MIB, most_bytes=49 * MIB), "memory missed"),
    ],
)
def test_what_counts_as_planned_well(row: Row, words: str) -> None:
    """Memory above the base within a tenth, or 4 MiB, or the budget that is used up; time within a quarter."""
    assert row.cells()[-1] == words
