"""Which rows are worth keeping: of every class those that the others explain least, within a budget.

Rows of one class are ordered by the pivots of a QR factorization with column pivoting (`quant.items`): each next one
is what the chosen ones span least. Classes then take turns, so a small class keeps all it has and large ones share
what is left evenly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from quant.items import choose_items

BLOCK_ROWS = 512  # of a class in float64 at once; more go block by block, each against the best so far


def choose_rows(
    features: NDArray[Any],
    labels: Sequence[int],
    sizes_bytes: Sequence[int],
    rows: int,
    size_bytes: int | None = None,
) -> list[int]:
    """The rows to keep, the most telling of every class first.

    Args:
        features: [n, D], finite.
        labels: the class of every row.
        sizes_bytes: what every row takes on disk.
        rows: how many at most.
        size_bytes: how many bytes they may take together; None: any. A row that does not fit leaves its turn to the
            next of its class.
    """
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    caps = shares({label: len(items) for label, items in members.items()}, rows)
    orders = [_pivots(features, members[label], caps[label]) for label in sorted(members) if caps[label]]
    chosen, room = list[int](), size_bytes
    while any(orders) and len(chosen) < rows:
        for order in orders:
            while order and room is not None and sizes_bytes[order[0]] > room:
                order.pop(0)
            if order and len(chosen) < rows:
                chosen.append(order.pop(0))
                room = None if room is None else room - sizes_bytes[chosen[-1]]
    return chosen


def shares(counts: Mapping[int, int], total: int) -> dict[int, int]:
    """How many each class keeps: as evenly as what they have allows; lower classes get what does not divide.

    >>> shares({0: 100, 1: 2, 2: 50}, 11)
    {0: 5, 1: 2, 2: 4}
    """
    kept, left = dict.fromkeys(sorted(counts), 0), total
    while left > 0 and (open_ := [label for label in kept if kept[label] < counts[label]]):
        step = max(1, min([left // len(open_), *(counts[label] - kept[label] for label in open_)]))
        for label in open_[: left // step]:
            kept[label] += step
            left -= step
    return kept


def _pivots(features: NDArray[Any], items: Sequence[int], count: int) -> list[int]:
    best: list[int] = []
    for start in range(0, len(items), BLOCK_ROWS):
        pool = [*best, *items[start : start + BLOCK_ROWS]]
        best = [pool[i] for i in choose_items(features[pool], min(count, len(pool)))]
    return best
