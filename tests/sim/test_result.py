from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sim.result import Check, as_text, board_table, interval, judge, model_table
from tests.sim.results import result

WIDTH = 1.96 * (0.74 * 0.26 / 720) ** 0.5  # of the 95 % interval of head-only in the results below
TEXT = {
    "at both bars": (0.55, 0.30, 0.55, [True, True]),
    "just below the best board and the bar": (0.5499, 0.30, 0.55, [False, True]),
    "just inside the interval": (0.74 - WIDTH + 1e-6, 0.30, 0.74, [True, True]),
    "just outside the interval": (0.74 - WIDTH - 1e-6, 0.30, 0.74, [True, False]),
    "far below both": (0.20, 0.30, 0.74, [False, False]),
}
CAMERAS = {
    "at the bar and beyond the interval": (0.85, 0.75, 0.74, [True, True]),
    "just below the bar": (0.8499, 0.75, 0.74, [False, True]),
    "just beyond the interval": (0.74 + WIDTH + 1e-6, 0.30, 0.74, [True, True]),
    "just inside the interval": (0.74 + WIDTH - 1e-6, 0.30, 0.74, [True, False]),
    "exactly the head": (0.74, 0.30, 0.74, [True, False]),
}


@pytest.mark.parametrize(("joint", "alone", "head", "held"), TEXT.values(), ids=TEXT.keys())
def test_text_is_judged_at_its_bars(joint: float, alone: float, head: float, held: list[bool]) -> None:
    """Joint must reach 25 points above the best board, and may be below head-only by the interval and no more."""
    boards = tuple(dataclasses.replace(b, alone=alone if i == 1 else 0.1) for i, b in enumerate(result().boards))

    checks = judge(result(joint={2: 0.99, 16: joint}, head_only=head, boards=boards), 0.25, None)

    assert [check.held for check in checks] == held
    assert "at least 25 points above the best single board" in checks[0].words
    assert f"{100 * (joint - alone):+.1f} points" in checks[0].figures
    assert "not below head-only by more than the test set's 95 % interval" in checks[1].words


@pytest.mark.parametrize(("joint", "unadapted", "head", "held"), CAMERAS.values(), ids=CAMERAS.keys())
def test_cameras_are_judged_at_their_bars(joint: float, unadapted: float, head: float, held: list[bool]) -> None:
    """Joint must reach 10 points above the un-adapted model and lie beyond the interval above head-only."""
    checks = judge(result(joint={2: 0.1, 16: joint}, head_only=head, unadapted=unadapted), None, 0.10)

    assert [check.held for check in checks] == held
    assert "at least 10 points above the un-adapted model" in checks[0].words
    assert "above head-only by more than the test set's 95 % interval" in checks[1].words


def test_without_bars_nothing_is_judged() -> None:
    """What nobody asked for is not judged, however bad the result."""
    assert judge(result(joint={16: 0.0}, unadapted=0.9), None, None) == ()


def test_the_interval_covers_what_it_says() -> None:
    """Of many drawn test sets about 95 in 100 have the true accuracy inside; more rows make it narrower."""
    drawn = np.random.default_rng(0).binomial(720, 0.74, 4000) / 720
    inside = np.mean([abs(found - 0.74) <= interval(float(found), 720) for found in drawn])
    assert 0.94 < inside < 0.96
    assert interval(0.74, 2880) == pytest.approx(interval(0.74, 720) / 2)
    assert interval(1.0, 0) == 0.0


def test_what_failed_is_found_among_both_kinds() -> None:
    """A run has failed where an invariant or the judgement did not hold, and nowhere else."""
    bad, worse = Check("a", False), Check("b", False)
    assert result().failed == []
    assert result(invariants=(Check("x", True), bad), learning=(worse, Check("y", True))).failed == [bad, worse]


def test_every_board_has_a_row() -> None:
    """Rank, rows, budget, peak, seconds per step, bytes and accuracy alone stand in the columns that say so."""
    header, rows = board_table(result())
    assert dict(zip(header, rows[0], strict=True)) == {
        "board": "zero", "rank": 2, "rows": 300, "segments": 1, "budget": "120.0 MiB", "peak": "90.0 MiB",
        "s/step": "0.50", "up": "1.0 MiB", "down": "2.0 MiB", "alone": "20.0 %",
    }  # fmt: skip
    assert [row[0] for row in rows] == ["zero", "four", "orin"]


def test_every_way_to_a_model_has_a_row() -> None:
    """Best board, head only, joint at each rank in order and centralised; the un-adapted model where there is one."""
    header, rows = model_table(result(joint={16: 0.75, 2: 0.7, 8: 0.74}, candidate={2: 0.7, 8: 0.74, 16: 0.75}))
    assert header == ["model", "rank", "accuracy on 720 rows"]
    assert rows == [
        ["best board alone", "-", "30.0 %"],
        ["head only, no adapter", "-", "74.0 %"],
        ["joint (version 5, released)", 2, "70.0 %"],
        ["joint (version 5, released)", 8, "74.0 %"],
        ["joint (version 5, released)", 16, "75.0 %"],
        ["centralised", 16, "80.0 %"],
    ]
    assert ["un-adapted model", "-", "31.0 %"] in model_table(result(unadapted=0.31))[1]


def test_a_candidate_that_was_not_released_is_shown() -> None:
    """Where the gate refused the last version, its accuracy is there too, and is not called joint."""
    _, rows = model_table(result(candidate={2: 0.6, 8: 0.61, 16: 0.62}))
    assert ["candidate (not released)", 16, "62.0 %"] in rows
    assert ["joint (version 5, released)", 16, "75.0 %"] in rows


def test_the_words_of_a_result_name_what_failed() -> None:
    """The text has both tables, the gate's sentence, and every check marked as held or failed."""
    text = as_text(result(learning=(Check("joint above all", False, "-3.0 points"),)))
    assert "FAILED joint above all (-3.0 points)" in text
    assert "held   nothing is lost (12 receipts)" in text
    assert "held   all signatures checked" in text.splitlines()
    assert "gate: 0.741 on the hold-outs, 0.739 before: released" in text
    assert "joint (version 5, released)" in text
    assert "zero" in text


def test_a_result_is_plain_json() -> None:
    """As JSON a result can be read back, every number with its name."""
    found = json.loads(json.dumps(dataclasses.asdict(result())))
    assert found["joint"] == {"2": 0.7, "8": 0.74, "16": 0.75}
    assert found["boards"][2]["peak_bytes"] == 96 << 20
    assert found["invariants"][0] == {"words": "nothing is lost", "held": True, "figures": "12 receipts"}
