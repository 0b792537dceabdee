"""Who holds which rows: unlike boards hold unlike classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.errors import BadData
from sim.rows import Row, labels_of
from sim.split import shuffle_key


@dataclass(frozen=True)
class Shares:
    """Training rows by board, and one common test set."""

    train: dict[str, list[Row]]
    test: list[Row]


def share(
    rows: Sequence[Row],
    boards: Sequence[str],
    train_rows: Sequence[int] | None = None,
    test_rows: int | None = None,
    seed: int = 0,
) -> Shares:
    """Give every board its rows: those that name it, and of the others whole classes in turn.

    With at least as many classes as boards, no class is on two boards (unless rows name their device).

    Args:
        rows: samples with their splits; every test row goes to the common test set.
        boards: their names.
        train_rows: at most so many for each board, spread evenly over its classes; None: all.
        test_rows: at most so many, spread evenly over the classes; None: all.
        seed: which rows are kept where there are too many.

    Raises:
        BadData: a board would hold no row.
    """
    labels = labels_of(rows)
    held: dict[str, list[Row]] = {board: [] for board in boards}
    dealt = dict.fromkeys(labels, 0)
    for row in sorted(rows, key=lambda row: shuffle_key(row.text, seed)):
        if row.split != "train":
            continue
        if row.device is None:
            holders = holders_of(labels.index(row.label), len(labels), boards)
            held[holders[dealt[row.label] % len(holders)]].append(row)
            dealt[row.label] += 1
        elif row.device in held:
            held[row.device].append(row)
    limits = dict(zip(boards, train_rows, strict=True)) if train_rows is not None else {}
    train = {board: even(mine, limits.get(board), seed) for board, mine in held.items()}
    idle = [board for board, mine in train.items() if not mine]
    if idle:
        raise BadData(
            f"expected training rows for every board, found none for {', '.join(idle)}; "
            "give them rows, or let no row name a device"
        )
    return Shares(train, even([row for row in rows if row.split == "test"], test_rows, seed))


def holders_of(label: int, labels: int, boards: Sequence[str]) -> list[str]:
    """The boards that hold one class: one of them, or several where there are fewer classes than boards.

    >>> [holders_of(c, 4, ["zero", "four", "orin"]) for c in range(4)]
    [['zero'], ['four'], ['orin'], ['zero']]
    >>> [holders_of(c, 2, ["zero", "four", "orin"]) for c in range(2)]
    [['zero', 'orin'], ['four']]
    """
    if labels >= len(boards):
        return [boards[label % len(boards)]]
    return [board for index, board in enumerate(boards) if index % labels == label]


def even(rows: Sequence[Row], limit: int | None, seed: int) -> list[Row]:
    """At most `limit` rows, the same number of every class as far as there are enough, in shuffled order."""
    shuffled = sorted(rows, key=lambda row: shuffle_key(row.text, seed))
    if limit is None:
        return shuffled
    per_label = max(1, limit // max(1, len(labels_of(rows))))
    kept: list[Row] = []
    count: dict[str, int] = {}
    for row in shuffled:
        count[row.label] = count.get(row.label, 0) + 1
        if count[row.label] <= per_label:
            kept.append(row)
    return kept
