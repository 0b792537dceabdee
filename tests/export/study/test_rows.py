"""Shares and their intervals, and labels as positions among logits."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from console.errors import BadData, UsageError
from export.study.classes import names_of, positions_of
from export.study.data import Items
from export.study.rows import Z95, Share

DATA = Path("data.jsonl")


@pytest.mark.parametrize(("hits", "of"), [(0, 7), (7, 7), (3, 7), (970, 1000)])
def test_an_interval_ends_where_the_score_test_does(hits: int, of: int) -> None:
    """At either end, found by halving, the share seen is 1.96 standard errors of that end away."""

    def reached(p: float, sign: float) -> float:
        return sign * (p - hits / of) - Z95 * math.sqrt(p * (1 - p) / of)

    for sign, found in zip((-1, 1), Share(hits, of).interval, strict=True):
        near, far = hits / of, 0.0 if sign < 0 else 1.0
        for _ in range(80):
            middle = (near + far) / 2
            near, far = (middle, far) if reached(middle, sign) < 0 else (near, middle)
        assert found == pytest.approx(near if near != hits / of else far, abs=1e-9)


def test_a_share_of_nothing_says_nothing() -> None:
    """No items: no share, and every share is possible."""
    assert math.isnan(Share(0, 0).share)
    assert Share(0, 0).interval == (0.0, 1.0)


def labelled(*labels: str) -> Items:
    """Items that have only labels."""
    return Items(labels=labels, places=tuple(f"line {i + 1}" for i in range(len(labels))))


def test_labels_are_names_or_else_numbers() -> None:
    """A name wins over a number that is written the same."""
    found = positions_of(labelled("wet", "0", "2", "1"), ("dry", "wet", "0"), 3, DATA)
    assert found.tolist() == [1, 2, 2, 1]


def test_labels_that_are_no_class_are_all_named() -> None:
    """With their lines, and what there would have been."""
    with pytest.raises(
        BadData, match=r"labels among dry, wet or numbers of 0 to 1 .*, found line 2: 'damp'; line 3: '7'"
    ):
        positions_of(labelled("wet", "damp", "7"), ("dry", "wet"), 2, DATA)
    with pytest.raises(BadData, match=r"among the classes or numbers of 0 to 1 .*, found line 1: '-1'; line 2: '²'"):
        positions_of(labelled("-1", "²"), (), 2, DATA)


def test_names_come_from_the_user_or_the_model() -> None:
    """The user's as many as there are logits; the model's where they fit."""
    assert names_of(("a", "b"), ("x", "y"), 2) == ("a", "b")
    assert names_of((), ("x", "y"), 2) == ("x", "y")
    assert names_of((), ("x", "y"), 3) == ()
    with pytest.raises(UsageError, match="expected 3 labels for 3 logits of this model, found 2 in --labels"):
        names_of(("a", "b"), (), 3)
