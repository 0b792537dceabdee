"""What is doubtful about data that is not wrong: warnings before a training run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edge.data.row import Data

NAMED = 8  # classes spelled out in a sentence


def doubts(data: Data, labels: Sequence[str]) -> list[str]:
    """Warnings about rows to learn from and rows kept back, a sentence each."""
    sides = ([0] * len(labels), [0] * len(labels))
    for side, rows in zip(sides, (data.train, data.holdout), strict=True):
        for row in rows:
            side[row.label] += 1
    return doubts_of_counts(labels, *sides)


def doubts_of_counts(labels: Sequence[str], train: Sequence[int], kept_back: Sequence[int]) -> list[str]:
    """The same, from the number of rows of every class.

    >>> doubts_of_counts(["a", "b"], [3, 0], [1, 0])[0]
    "every row to learn from is of class 'a': what is learned is to say so always"
    """
    present = [label for label, count in zip(labels, train, strict=True) if count]
    absent = [label for label, count in zip(labels, train, strict=True) if not count]
    found = []
    if not present:
        found.append("no row is left to learn from: give more rows or a smaller hold-out")
    if len(present) == 1:
        found.append(f"every row to learn from is of class {present[0]!r}: what is learned is to say so always")
    if present and absent:
        found.append(f"no row to learn from for {len(absent)} of {len(labels)} classes: {some(absent)}")
    if not sum(kept_back):
        found.append("no row is kept back: nothing will tell whether training helped")
    return found


def some(names: Iterable[str]) -> str:
    """The first names of many.

    >>> some("abcdefghijk")
    'a, b, c, d, e, f, g, h and 3 more'
    """
    every = list(names)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + more
