"""What one board could hold of a model, within its memory: every front, and the whole.

Memory is that of `devices.plan`: the fewest segments in which a part fits at all with the smallest adapters, and in
so many segments the largest choice of ranks. A border is looked at where the front gets a slot, or fewer bytes cross
than at an earlier border of the same slots: any other one takes more of everything and gives nothing.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from devices.covers import UNREACHED, Table
from devices.memory import adapter_bytes
from devices.plan import adapters_of, needs, table_of
from devices.split.frontier import Frontier
from devices.split.work import Member, SlotWork, Units
from devices.thin import crossing


@dataclass(frozen=True)
class Holding:
    """A part that fits: the units before `border`, cut at `cuts`, with `count` slots.

    `largest` is the index of the largest choice of ranks (`Frontier.of`) that memory allows.
    """

    border: int
    cuts: tuple[int, ...]
    count: int
    largest: int
    quant: str
    mode: str


def slots_before(slots: Sequence[SlotWork], border: int) -> int:
    """How many slots a front has; slots are in the order of their units."""
    return bisect.bisect_left(slots, border, key=lambda slot: slot.unit)


def borders_of(units: Units, slots: Sequence[SlotWork], places: Sequence[int]) -> list[int]:
    """Borders that are worth a look, the end of the model excluded; see the top."""
    kept: list[int] = []
    least: dict[int, list[tuple[int, int]]] = {}
    for border in places:
        count = slots_before(slots, border)
        if not 0 < border < len(units) or not 0 < count < len(slots):  # a tail without slots has nothing to learn
            continue
        cost = (crossing(units, border), units[border - 1].copied_bytes_per_item)
        if not any(a <= cost[0] and b <= cost[1] for a, b in least.setdefault(count, [])):
            least[count].append(cost)
            kept.append(border)
    return kept


class Memory:
    """What parts of a model need on one board, in one format and mode; tables are made once."""

    def __init__(
        self, units: Units, member: Member, quant: str, mode: str, micro_batch: int, places: Sequence[int], limit: int
    ) -> None:
        """`limit`: bytes above which nobody looks."""
        self.units, self.board, self.micro_batch, self.places = units, member.stored(quant, mode), micro_batch, places
        self._index = {place: index for index, place in enumerate(places)}
        self._table = table_of(units, self.board, micro_batch, 1, limit, places)
        self._of_items: dict[int, Table] = {}

    def room(self, border: int, extra_bytes: int = 0) -> int:
        """Of the budget beside what a part keeps anyway: its states, and what else is said."""
        return self.board.budget_bytes - adapters_of(self.units[:border], self.board) - extra_bytes

    def cuts(self, border: int, room: int, items: int) -> tuple[int, ...] | None:
        """Fewest cuts of a part within a room; None if nothing fits."""
        table, at = self._items(items), self._index[border]
        if int(table.fixed[0, at]) <= room:
            return ()
        found = table.covers(0, [at], room).get(at)
        return None if found is None else tuple(self.places[cut] for cut in found)

    def cuts_at(self, borders: Sequence[int], room: int, items: int) -> tuple[int, ...] | None:
        """Fewest cuts of the whole that have some borders among them; None if nothing fits."""
        table = self._table.of_items(items)
        for border in borders:
            table.divide(self._index[border])
        found = table.covers(0, [len(self.places) - 1], room).get(len(self.places) - 1)
        return None if found is None else tuple(self.places[cut] for cut in found)

    def alone(self, border: int, items: int) -> int:
        """What a part needs as one segment; more than anybody has where that is too much."""
        return int(self._items(items).fixed[0, self._index[border]])

    def peak(self, holding: Holding, values: int, items: int, extra_bytes: int = 0) -> int:
        """The predicted peak of a part with adapters of so many values."""
        span = (0, holding.border)
        found = needs(self.units, self.board, holding.cuts, self.micro_batch, items, span)
        return max(need.total for need in found) + adapter_bytes(values, 1, self.board.mode) + extra_bytes

    def _items(self, items: int) -> Table:
        if items not in self._of_items:
            self._of_items[items] = self._table.of_items(items)
        return self._of_items[items]


def holdings(
    memory: Memory,
    slots: Sequence[SlotWork],
    frontier: Frontier,
    borders: Sequence[int],
    items: int,
    extra_bytes: int = 0,
) -> Iterator[Holding]:
    """Every part that fits with one adapter at least.

    Args:
        memory: of the board.
        slots: of the model, in the order of their units.
        frontier: of the slots.
        borders: that are looked at.
        items: of a step, whose boundary tensors wait between segments.
        extra_bytes: kept beside, whatever the part.
    """
    for border in borders:
        count = slots_before(slots, border)
        found = _largest(memory, frontier, border, count, items, memory.room(border, extra_bytes))
        if found is not None:
            yield Holding(border, found[1], count, found[0], memory.board.quant, memory.board.mode)


def _largest(
    memory: Memory, frontier: Frontier, border: int, count: int, items: int, room: int
) -> tuple[int, tuple[int, ...]] | None:
    """The largest choice of ranks that fits in the fewest segments in which the smallest fits, and the cuts."""
    values = frontier.of(count).values
    if len(values) < 2:
        return None
    per_value, mode = adapter_bytes(1, 1, memory.board.mode), memory.board.mode
    alone = memory.alone(border, items)
    if alone + per_value * int(values[1]) <= room < UNREACHED:
        return frontier.of(count).within((room - alone) // per_value), ()
    least = memory.cuts(border, room - adapter_bytes(int(values[1]), 1, mode), items)
    if least is None:
        return None
    found, low, high = least, 1, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        cuts = memory.cuts(border, room - adapter_bytes(int(values[middle]), 1, mode), items)
        if cuts is not None and len(cuts) <= len(least):
            found, low = cuts, middle
        else:
            high = middle
    return low, found
