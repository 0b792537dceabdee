"""The tail of a fleet: the whole model on one agent, cut at every border, with its adapters once for each board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from devices.memory import adapter_bytes
from devices.plan import adapters_of, needs
from devices.split.fleet_plan import FRONT, TailPlan
from devices.split.holdings import Memory, slots_before
from devices.split.hsplitlora import Configured
from devices.split.work import Member, ModelWork


class TailMemory:
    """What a tail needs at one micro-batch, in one format."""

    def __init__(self, model: ModelWork, tail: Member, quant: str, micro_batch: int, limit: int) -> None:
        """`limit`: bytes above which nobody looks."""
        self.model, self.tail, self.micro_batch = model, tail, micro_batch
        self.units = model.units[micro_batch, "train"]
        self.memory = Memory(self.units, tail, quant, "train", micro_batch, range(len(self.units) + 1), limit)

    def cuts(self, borders: Sequence[int], boards: int, items: int, budget_bytes: int) -> tuple[int, ...] | None:
        """Fewest cuts that have all borders among them and fit a budget; None if there are none."""
        return self.memory.cuts_at(borders, budget_bytes - self._beside(borders, boards), items)

    def peak(self, cuts: Sequence[int], borders: Sequence[int], boards: int, items: int) -> int:
        """The predicted peak with some cuts."""
        found = needs(self.units, self.memory.board, cuts, self.micro_batch, items)
        adapters = self._beside(borders, boards) - adapters_of(self.units, self.memory.board)
        return max(need.total for need in found) + adapters

    def ranks(self, borders: Sequence[int]) -> dict[str, int]:
        """The largest rank for every slot behind the earliest border."""
        behind = self.model.slots[slots_before(self.model.slots, min(borders)) :]
        return {slot.name: max(self.tail.ranks) for slot in behind}

    def _beside(self, borders: Sequence[int], boards: int) -> int:
        """States, and adapters with their optimizer once per board."""
        behind = self.model.slots[slots_before(self.model.slots, min(borders)) :]
        values = sum(slot.values_per_rank for slot in behind) * max(self.tail.ranks)
        return adapters_of(self.units, self.memory.board) + boards * adapter_bytes(values, 1, "train")


def tail_of(memory: TailMemory, quant: str, fronts: Sequence[Configured]) -> TailPlan | None:
    """The tail of some fronts, its time not yet counted; None if it does not fit."""
    borders = tuple(sorted({front.offer.holding.border for front in fronts}))
    items = max(front.offer.batch for front in fronts)
    board = memory.tail.board
    cuts = memory.cuts(borders, len(fronts), items, board.budget_bytes)
    if cuts is None:
        return None
    return TailPlan(
        board.name,
        board.budget_bytes,
        quant,
        borders,
        memory.ranks(borders),
        memory.peak(cuts, borders, len(fronts), items),
        busy_ns=0,
        profile=board.profile,
        cuts=cuts,
    )


def kept_busy(tail: TailPlan, boards: Sequence[Configured], steps: int) -> TailPlan:
    """With the time that its boards take of it in a round of so many steps."""
    busy = sum(steps * board.offer.tail_ns for board in boards if board.offer.trainer in FRONT)
    longest = max(board.round_ns for board in boards if board.offer.trainer in FRONT)
    return replace(tail, busy_ns=busy, agents=max(1, -(-busy // max(1, longest))))
