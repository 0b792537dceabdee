"""Where fronts end and which ranks their slots get: by the planner for a method of ours, by its paper for the others.

The memory of a front is its blocks' weights in float32 and 16 bytes per value of its adapters; the planner's own
choices of ranks (`devices.split.frontier`) are tried at every border, and that is taken which covers most importance.
All methods have the same fronts, so that what crosses is the same; but for "equal", whose fronts all are those of the
smallest board, as in SplitLoRA (Lin et al., arXiv 2407.00952).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.splitting.models import Slotted
from devices.ranks import LARGEST_RANK
from devices.split.frontier import Frontier
from devices.split.work import RANKS, SlotWork, shares

VALUE_BYTES, FLOAT_BYTES = 16, 4


@dataclass(frozen=True)
class Board:
    """A board's front and the rank of each slot that it, or its copy of the tail, trains."""

    border: int
    ranks: dict[str, int]
    front: frozenset[str]

    def values(self, sizes: Mapping[str, tuple[int, int]]) -> int:
        """Of the adapters of its front, which travel."""
        return sum(rank * sum(sizes[name]) for name, rank in self.ranks.items() if name in self.front)


def boards_of(method: str, model: Slotted, budgets: Sequence[float], importance: Mapping[str, float]) -> list[Board]:
    """The boards of a method; "centralised" is one, which holds all."""
    slots = list(model.slots)
    if method == "centralised":
        return [Board(0, dict.fromkeys(slots, LARGEST_RANK), frozenset())]
    planned = [_planned(model, budget, importance) for budget in budgets]
    if method == "planned":
        return planned
    if method == "uniform":
        return [within(model, budget, one.border, {}) for budget, one in zip(budgets, planned, strict=True)]
    if method == "equal":
        border = min(one.border for one in planned)
        rank = min(_one_rank(model, budget, border) for budget in budgets)
        return [Board(border, dict.fromkeys(slots, rank), _front(model, border)) for _ in budgets]
    return [_of_one_rank(model, budget, one.border, method) for budget, one in zip(budgets, planned, strict=True)]


def _front(model: Slotted, border: int) -> frozenset[str]:
    return frozenset(name for name in model.slots if model.block(name) < border)


def room(model: Slotted, budget: float, border: int) -> int:
    """Values that the adapters of a front may have; below 0 where its blocks are too much."""
    block = FLOAT_BYTES * model.block_values()
    return int((budget - border) * block) // VALUE_BYTES


def _planned(model: Slotted, budget: float, importance: Mapping[str, float]) -> Board:
    """The border of the most importance that is covered; of equals the later one."""
    work, frontier = _frontier(model, importance)
    found = []
    for border in range(1, model.blocks):
        count = sum(model.block(slot.name) < border for slot in work)
        index = frontier.of(count).within(room(model, budget, border))
        if index > 0:
            found.append((int(frontier.of(count).covered[index]), border))
    return within(model, budget, max(found)[1], importance)


def within(model: Slotted, budget: float, border: int, importance: Mapping[str, float]) -> Board:
    """The ranks of a front by importance; behind it all slots get the largest."""
    _, frontier = _frontier(model, importance)
    front = _front(model, border)
    index = frontier.of(len(front)).within(room(model, budget, border))
    tail = {name: LARGEST_RANK for name in model.slots if name not in front}
    return Board(border, {**frontier.ranks(len(front), index), **tail}, front)


def _frontier(model: Slotted, importance: Mapping[str, float]) -> tuple[list[SlotWork], Frontier]:
    work = [SlotWork(name, model.block(name), sum(size), size[0] * size[1]) for name, size in model.slots.items()]
    return work, Frontier(work, shares(work, importance or None), RANKS)


def _one_rank(model: Slotted, budget: float, border: int) -> int:
    """The largest rank that all slots of a front can have."""
    per_rank = sum(sum(model.slots[name]) for name in _front(model, border))
    return max(1, min(LARGEST_RANK, room(model, budget, border) // per_rank))


def _of_one_rank(model: Slotted, budget: float, border: int, method: str) -> Board:
    """HetLoRA: a board has one rank; "hetlora-tail" has the largest where no board's memory is asked for."""
    rank, front = _one_rank(model, budget, border), _front(model, border)
    tail = LARGEST_RANK if method == "hetlora-tail" else rank
    return Board(border, {name: rank if name in front else tail for name in model.slots}, front)
