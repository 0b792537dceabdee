"""What a fix must pass before it goes out, and what an agent may send for one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from console.errors import BadData
from hub.fixes.gate import Bars, decide, drawdown
from hub.making.model import Model
from hub.serving.asked import Asked
from hub.serving.check import check
from wire.adapter import Adapter, to_bytes
from wire.fixes import KEY, AtRank, Report, text_of
from wire.kinds.edit import HeadEdit
from wire.kinds.head import Head
from wire.messages import Begin, Sender

LOW = AtRank(2, "b", True, 0.5, 3, 900, 1, 4)
HIGH = AtRank(8, "b", True, 0.2, 3, 950, 0, 0)
GOOD = Report(1, "r3-fix-server", 1000, 3, False, (LOW, HIGH))
BARS = Bars("a", 3, 0.001)
BASE = "1" * 64


def test_what_meets_every_bar_passes_and_says_its_numbers() -> None:
    """One of 1,000 rows is 0.1 %, which the bar allows; the worst rank is what is said."""
    found = decide(GOOD, BARS)
    assert found.passed
    assert found.sentence == (
        "success at ranks 2, 8 (leads by 0.2); paraphrases 3 of 3 right; drawdown 1 of 1000 calibration rows (0.1 %, "
        "the bar is 0.1 %, one row is 0.1 %)"
    )
    assert "which it was fitted to" in decide(replace(GOOD, fitted=True), BARS).sentence
    assert drawdown(GOOD) == 0.001


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"at": (replace(LOW, right=False, lead=-0.1), HIGH)},
            "success: the input is 'a' at 1 of 2 ranks (not at rank 2), the bar is all of them",
        ),
        (
            {"at": (LOW, replace(HIGH, paraphrases_right=2))},
            "paraphrases: 2 of 3 are 'a' at rank 8, the bar is all of them",
        ),
        ({"paraphrases": 2}, "paraphrases: 2 were looked at, 3 were given"),
        (
            {"at": (replace(LOW, lost=2), HIGH)},
            "drawdown: 2 of 1000 calibration rows lost at rank 2 (0.2 %), the bar is 0.1 %",
        ),
        (
            {"rows": 0, "at": (replace(LOW, right_before=0, lost=0), HIGH)},
            "drawdown: it is not known, since there were no calibration rows",
        ),
        (
            {"at": (replace(LOW, before="a"), replace(HIGH, before="a"))},
            "nothing to mend: the version in use answers 'a' already",
        ),
    ],
)
def test_what_misses_a_bar_is_refused_by_its_number(change: dict[str, object], words: str) -> None:
    """Each bar by itself refuses, and says what was found and what the bar is."""
    found = decide(replace(GOOD, **change), BARS)  # type: ignore[arg-type]  # fields of a report
    assert not found.passed
    assert found.sentence == f"refused: {words}"


def test_gained_rows_are_not_set_against_lost_ones() -> None:
    """Two rows lost are two, however many became right."""
    assert not decide(replace(GOOD, at=(replace(LOW, lost=2, gained=90), HIGH)), BARS).passed


def edit(features: int = 4, classes: int = 3, size: float = 1.0) -> HeadEdit:
    """Factors of one column."""
    return HeadEdit(np.full((features, 1), size, np.float32), np.ones((1, classes), np.float32))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"edits": {2: edit()}}, r"edits are of ranks \[2\], not \[2, 8\]"),
        ({"edits": {2: edit(), 8: edit(5)}}, r"the edit of rank 8 is \[5, 3\] instead of \[4, 3\]"),
        ({"edits": {2: edit(), 8: edit(size=1e7)}}, "the edit of rank 8 has entries above 1e"),
        ({"heads": {2: Head(np.zeros((4, 3), np.float32), np.zeros(3, np.float32))}}, "expected an edit only"),
        ({"model": "other"}, "it belongs to model 'other' instead of toy"),
        ({"metadata": {}}, "expected a report of a fix|found something else"),
        (
            {"metadata": {KEY: text_of(replace(GOOD, at=(LOW,)))}},
            r"what it reports are of ranks \[2\], not \[2, 8\]",
        ),
    ],
)
def test_what_an_agent_sends_must_be_what_was_asked(content: dict[str, object], words: str) -> None:
    """An edit at every rank of the job, of the model's shapes, with a report of the same ranks, and nothing else."""
    model = Model("toy", (), ("a", "b", "c"), 4)
    begin = Begin(Sender("server", "boot", 1), "2" * 64, "edit", "r3-fix-server", 3, BASE, 9, 1000)
    asked = Asked(16, (BASE,), (2, 8))
    whole = Adapter("toy", BASE, edits={2: edit(), 8: edit()}, metadata={KEY: text_of(GOOD)})
    check(to_bytes(whole), begin, model, asked)
    with pytest.raises(BadData, match=words):
        check(to_bytes(replace(whole, **content)), begin, model, asked)  # type: ignore[arg-type]  # fields of a file
