"""What the gate says, word by word, and how often it errs: exact probabilities by enumeration of all outcomes."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hub.rounds import gate
from hub.rounds.gate import Decision
from wire.scores import Score

NEW, OLD = "a" * 64, "b" * 64


def score(version: str, count: tuple[int, ...], correct: tuple[int, ...], both: tuple[int, ...] = ()) -> Score:
    """A score at rank 2."""
    return Score(version, 2, count, correct, both)


def decide(new: list[Score], old: list[Score], **options: Any) -> Decision:
    """The gate's decision over boards, of which each has one score of each version."""
    return gate.decide(zip(new, old, strict=True), NEW, OLD, **options)


ON = "on 120 rows that boards kept back"
CASES = {
    "better": ((80, 40), (60, 30), True, f"75.0 % after 50.0 % {ON} (noise 10.4 %): not worse"),
    "equal": ((80, 40), (40, 20), True, "50.0 % after 50.0 %"),
    "lower": ((80, 40), (40, 18), True, f"47.5 % after 50.0 % {ON} (noise 11.0 %): lower, but not beyond the noise"),
    "worse": ((80, 40), (40, 5), False, f"31.2 % after 50.0 % {ON} (noise 10.1 %): worse beyond the noise"),
}


@pytest.mark.parametrize(("count", "correct", "released", "words"), CASES.values(), ids=CASES.keys())
def test_the_gate_compares_macro_accuracy(
    count: tuple[int, ...], correct: tuple[int, ...], released: bool, words: str
) -> None:
    """A version is released unless its mean accuracy over classes is below the other's by more than the noise."""
    decision = decide([score(NEW, count, correct)], [score(OLD, count, (40, 20))])

    assert decision.released is released
    assert words in decision.sentence


def test_scores_are_summed_before_they_are_compared() -> None:
    """Two boards with different classes are judged as if their rows lay in one place."""
    new = [score(NEW, (100, 0), (100, 0)), score(NEW, (0, 20), (0, 0))]
    old = [score(OLD, (100, 0), (60, 0)), score(OLD, (0, 20), (0, 20))]

    decision = decide(new, old)

    assert (decision.candidate, decision.parent) == (0.5, 0.8)
    assert not decision.released


def test_a_tolerance_lets_a_little_loss_pass() -> None:
    """With a tolerance of a point and no noise, a loss of less than a point is released and one of more is not."""
    old = [score(OLD, (1000,), (800,))]

    assert decide([score(NEW, (1000,), (795,))], old, tolerance=0.01, noise=0.0).released
    assert not decide([score(NEW, (1000,), (785,))], old, tolerance=0.01, noise=0.0).released


@pytest.mark.parametrize("count", [(), (0, 0)], ids=["no board", "no rows"])
def test_without_rows_nothing_is_released(count: tuple[int, ...]) -> None:
    """What nobody could judge does not replace what is in use."""
    scores = [score(NEW, count, count)] if count else []

    decision = decide(scores, [score(OLD, s.count, s.correct) for s in scores])

    assert not decision.released
    assert "no board had rows to judge it by" in decision.sentence


def test_different_rows_are_no_comparison() -> None:
    """A board whose rows differ between the two versions is left out with words, and decides nothing for others."""
    strange = score(NEW, (300, 1), (0, 0)), score(OLD, (400, 1), (400, 1))
    fine = score(NEW, (30, 10), (30, 10)), score(OLD, (30, 10), (20, 5))

    alone, together = (gate.decide(boards, NEW, OLD) for boards in ([strange], [strange, fine]))

    assert not alone.released
    assert together.released
    assert "left out: 1 boards that judged the two versions on different rows" in together.sentence


def test_a_class_that_is_lost_is_an_alarm() -> None:
    """A class of which no row is right any more is named, even where the mean over many classes hides it."""
    count = (50,) * 20
    new, old = (48,) * 19 + (0,), (45,) * 19 + (40,)

    decision = decide([score(NEW, count, new)], [score(OLD, count, old)], labels=("apple",) * 19 + ("plum",))

    assert "alarm: no row is right any more of plum (0 of 50, was 40)" in decision.sentence
    assert "alarm" not in decide([score(NEW, count, old)], [score(OLD, count, new)]).sentence


def test_pairs_of_boards_that_lie_change_nothing_impossible() -> None:
    """A count of rows right under both that cannot be is brought to what can; the error stays a number above 0."""
    new, old = score(NEW, (10,), (9,)), score(OLD, (10,), (8,), (0,))

    error = decide([new], [old]).error

    assert error == decide([new], [score(OLD, (10,), (8,), (7,))]).error
    assert error is not None
    assert error > 0


def refused(n: int, new: float, old: float) -> float:
    """The exact probability that the gate refuses, one class, both versions on n rows, independent of each other."""
    ways = [stats.binom(n, p).pmf(np.arange(n + 1)) for p in (new, old)]
    return float(
        sum(
            ways[0][k] * ways[1][m]
            for k, m in product(range(n + 1), repeat=2)
            if not decide([score(NEW, (n,), (k,))], [score(OLD, (n,), (m,))]).released
        )
    )


def refused_in_pairs(n: int, lost: float, gained: float, right: float) -> float:
    """The same where rows are paired: shares of rows that only the old, only the new, or both versions get right."""
    total = 0.0
    chances = (lost, gained, right, 1 - lost - gained - right)
    for b, c, a in product(range(n + 1), repeat=3):
        if a + b + c <= n:
            pair = [score(NEW, (n,), (a + c,))], [score(OLD, (n,), (a + b,), (a,))]
            if not decide(*pair).released:
                total += stats.multinomial(n, chances).pmf((b, c, a, n - a - b - c))
    return total


@pytest.mark.parametrize(("n", "p"), [(10, 0.5), (30, 0.5), (30, 0.8), (60, 0.95)])
def test_equal_versions_are_seldom_refused(n: int, p: float) -> None:
    """Of versions that are just as good, about one in twenty is refused, whatever the accuracy."""
    assert 0.03 <= refused(n, p, p) <= 0.065


@pytest.mark.parametrize(
    ("n", "new", "old", "least"), [(60, 0.5, 0.8, 0.95), (60, 0.65, 0.8, 0.55), (30, 0.2, 0.9, 0.999)]
)
def test_worse_versions_are_found(n: int, new: float, old: float, least: float) -> None:
    """A clear loss is refused, with a probability that rows and loss give."""
    assert refused(n, new, old) >= least


def test_pairs_see_what_counts_do_not() -> None:
    """Where two versions differ in few rows, the paired count finds a loss that independent rows would hide."""
    n, lost, gained, right = 20, 0.25, 0.0, 0.65

    assert refused_in_pairs(n, lost, gained, right) >= 0.9
    assert refused(n, right + gained, right + lost) <= 0.7
    assert refused_in_pairs(n, 0.1, 0.1, 0.7) <= 0.065


def test_many_classes_of_few_rows() -> None:
    """Two classes of unequal size: with four rows of one, an equal version is refused in one of ten cases at most."""
    small, large, p = 4, 16, 0.7
    one, two = (stats.binom(n, p).pmf(np.arange(n + 1)) for n in (small, large))
    total = 0.0
    for k, m in product(range(small + 1), range(large + 1)):
        for i, j in product(range(small + 1), range(large + 1)):
            if not decide([score(NEW, (small, large), (k, m))], [score(OLD, (small, large), (i, j))]).released:
                total += one[k] * two[m] * one[i] * two[j]
    assert total <= 0.1
