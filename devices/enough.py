"""Where nothing fits: which budget would be enough, what takes the room, and which known boards have so much.

More memory means a larger adapter rank where none is given, and that needs more memory in turn. So whether a budget
is enough is monotone only between the budgets where the rank changes, and is asked anew at each of them.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from console.table import size
from devices.memory import Need
from devices.ranks import RANKS, rank_for

PRECISION_BYTES = 64 * 1024  # of the smallest budget that a refusal names
Enough = Callable[[int], bool]  # whether a budget in bytes would do


@dataclass(frozen=True)
class KnownBoard:
    """A kind of board that could be taken, and its budget."""

    name: str
    budget_bytes: int


def smallest_budget(enough: Enough, most: int) -> int | None:
    """The smallest budget of at most `most` bytes that would do, at most 64 KiB too large; None if none would."""
    starts = [0, *(limit for limit, _ in RANKS if limit < most)]
    for start, last in zip(starts, [*(start - 1 for start in starts[1:]), most], strict=True):
        if enough(last):
            return start if enough(start) else _bisected(enough, start, last)
    return None


def _bisected(enough: Enough, low: int, high: int) -> int:
    """The same between a budget that would not do and one that would, of one rank."""
    while high - low > PRECISION_BYTES:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def that_would_do(known: Sequence[KnownBoard] | None, enough: Enough, where: str = "") -> str:
    """Which known boards would do, as a clause to append; empty where no boards are known at all.

    Args:
        known: in any order; None where nobody has looked.
        enough: whether a budget would do.
        where: such boards would do, for example " in its place".
    """
    if known is None:
        return ""
    ordered = sorted(known, key=lambda board: (board.budget_bytes, board.name))
    would: list[KnownBoard] = []
    for _, group in itertools.groupby(ordered, key=lambda board: rank_for(board.budget_bytes)):
        same = list(group)
        would += same[bisect.bisect_left(same, True, key=lambda board: enough(board.budget_bytes)) :]
    if not would:
        return f"; no known board would do{where}"
    least = would[0].budget_bytes
    names = [board.name for board in would if board.budget_bytes == least]
    larger = [board for board in ordered if board.budget_bytes > least]
    names += ["larger ones"] if larger and len(would) == len(larger) + len(names) else []
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"; of the known boards {listed} would do{where}"


def held_by(need: Need) -> str:
    """What takes the room of a segment, in words."""
    parts = {
        "weights": need.weights,
        "activations": need.live,
        "adapters and states": need.adapters,
        "tensors that wait between segments": need.stored,
    }
    return "beside the runtime " + ", ".join(f"{size(held)} of {part}" for part, held in parts.items() if held)
