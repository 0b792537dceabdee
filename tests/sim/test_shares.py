from __future__ import annotations

from collections import Counter

import pytest

from console.errors import BadData
from sim.docstrings import docstring_rows
from sim.recipes import TEXT
from sim.rows import Row
from sim.shares import share

BOARDS = ("zero", "four", "orin")


def _rows(labels: str, per_label: int, device: str | None = None) -> list[Row]:
    return [
        Row(f"{label} {i}", label, "test" if i % 5 == 0 else "train", device)
        for label in labels
        for i in range(per_label)
    ]


def test_boards_hold_disjoint_classes_and_the_recipe_s_numbers() -> None:
    """On the built-in data: three whole classes per board, unequal sizes, nothing of the test set among them."""
    shares = share(docstring_rows(), TEXT.boards, TEXT.train_rows, TEXT.test_rows)
    held = {board: {row.label for row in rows} for board, rows in shares.train.items()}
    assert [len(labels) for labels in held.values()] == [3, 3, 3]
    assert len(set().union(*held.values())) == 9
    assert {board: len(rows) for board, rows in shares.train.items()} == TEXT.train_rows_of
    assert Counter(row.label for row in shares.test) == dict.fromkeys(set().union(*held.values()), TEXT.test_rows // 9)
    tested = {row.text for row in shares.test}
    assert not any(row.text in tested for rows in shares.train.values() for row in rows)


def test_shares_depend_on_the_seed_and_not_on_the_order() -> None:
    """Shuffling the rows changes nothing; another seed keeps other rows; splits never change."""
    rows = _rows("abc", 50)
    first = share(rows, BOARDS, (10, 10, 10), 9, seed=1)
    assert share(rows[::-1], BOARDS, (10, 10, 10), 9, seed=1) == first
    other = share(rows, BOARDS, (10, 10, 10), 9, seed=2)
    assert {row.text for row in other.train["zero"]} != {row.text for row in first.train["zero"]}
    assert all(row.split == "train" for held in other.train.values() for row in held)
    assert all(row.split == "test" for row in other.test)


def test_without_limits_every_row_is_given_once() -> None:
    """Nothing is lost and nothing is doubled."""
    rows = _rows("abcde", 20)
    shares = share(rows, BOARDS)
    given = [row for held in shares.train.values() for row in held] + shares.test
    assert sorted(row.text for row in given) == sorted(row.text for row in rows)


def test_fewer_classes_than_boards_are_dealt_row_by_row() -> None:
    """With two classes on three boards nobody is left without rows, and no row is on two boards."""
    shares = share(_rows("ab", 20), BOARDS)
    assert {board: {row.label for row in rows} for board, rows in shares.train.items()} == {
        "zero": {"a"},
        "four": {"b"},
        "orin": {"a"},
    }
    assert len(shares.train["zero"]) == len(shares.train["orin"]) == 8


def test_rows_go_to_the_device_that_they_name() -> None:
    """A named device wins over the deal by class."""
    rows = [*_rows("abc", 10), *_rows("x", 10, device="orin")]
    shares = share(rows, BOARDS)
    assert [board for board, held in shares.train.items() if any(row.label == "x" for row in held)] == ["orin"]


def test_a_board_without_rows_is_named() -> None:
    """If all rows name one device, the others have nothing to learn from."""
    with pytest.raises(BadData, match="expected training rows for every board, found none for zero, four; give them"):
        share(_rows("ab", 10, device="orin"), BOARDS)
