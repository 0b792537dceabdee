"""What the gate says, word by word."""

from __future__ import annotations

import pytest

from hub.gate import decide
from wire.scores import Score

NEW, OLD = "a" * 64, "b" * 64


def score(version: str, count: tuple[int, ...], correct: tuple[int, ...]) -> Score:
    """A score at rank 2."""
    return Score(version, 2, count, correct)


CASES = {
    "better": ((8, 4), (6, 3), True, "75.0 % after 50.0 % on 12 rows that boards kept back: released"),
    "equal": ((8, 4), (4, 2), True, "50.0 % after 50.0 %"),
    "worse": ((8, 4), (4, 1), False, "37.5 % after 50.0 % on 12 rows that boards kept back: worse, so the version"),
}


@pytest.mark.parametrize(("count", "correct", "released", "words"), CASES.values(), ids=CASES.keys())
def test_the_gate_compares_macro_accuracy(
    count: tuple[int, ...], correct: tuple[int, ...], released: bool, words: str
) -> None:
    """A version is released unless its mean accuracy over classes, on summed counts, is below the other's."""
    decision = decide([score(NEW, count, correct)], [score(OLD, count, (4, 2))])

    assert decision.released is released
    assert words in decision.sentence


def test_scores_are_summed_before_they_are_compared() -> None:
    """Two boards with different classes are judged as if their rows lay in one place."""
    new = [score(NEW, (10, 0), (10, 0)), score(NEW, (0, 2), (0, 0))]
    old = [score(OLD, (10, 0), (6, 0)), score(OLD, (0, 2), (0, 2))]

    decision = decide(new, old)

    assert (decision.candidate, decision.parent) == (0.5, 0.8)
    assert not decision.released


def test_a_tolerance_lets_a_little_loss_pass() -> None:
    """With a tolerance of a point, a loss of less than a point is released and a loss of more is not."""
    old = [score(OLD, (1000,), (800,))]

    assert decide([score(NEW, (1000,), (795,))], old, tolerance=0.01).released
    assert not decide([score(NEW, (1000,), (785,))], old, tolerance=0.01).released


@pytest.mark.parametrize("count", [(), (0, 0)], ids=["no board", "no rows"])
def test_without_rows_nothing_is_released(count: tuple[int, ...]) -> None:
    """What nobody could judge does not replace what is in use."""
    scores = [score(NEW, count, count)] if count else []

    decision = decide(scores, [score(OLD, s.count, s.correct) for s in scores])

    assert not decision.released
    assert "no board had rows to judge it by" in decision.sentence


def test_different_rows_are_no_comparison() -> None:
    """Counts that differ between the two versions are refused with words."""
    decision = decide([score(NEW, (3, 1), (3, 1))], [score(OLD, (4, 1), (1, 1))])

    assert not decision.released
    assert "judged on different rows" in decision.sentence
