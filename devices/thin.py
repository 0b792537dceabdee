"""Which legal cuts a search over boards looks at, where there are too many to look at all (docs/plan.md).

A cut is superfluous beside another one where no more bytes cross, if what lies between weighs next to nothing:
moving a border there costs next to nothing and may only save. How much "next to nothing" is, is said.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from devices.memory import Need
from devices.plan import STEP_ITEMS, adapters_of
from devices.times import unit_ns
from devices.units import Stretch, Unit, boundary

if TYPE_CHECKING:
    from devices.stages import Station

MOST = 160  # cuts; a chain of three boards over as many is decided within seconds
FIRST_SLACK = 1 / 4096


def places_of(
    units: Sequence[Unit], stations: Sequence[Station], micro_batch: int, most: int = MOST
) -> tuple[tuple[int, ...], float]:
    """Where borders and cuts may be: 0, the cuts that are kept, and the end.

    Returns:
        The places, and the slack: a plan over all cuts that leaves 4 x slack of every budget free has a counterpart
        over these, of no more segments and no more bytes across, whose stages take at most 4 x slack of their
        board's time for the whole model longer; in training, 1 x slack more for each segment of a board. Only a plan
        with a stage that weighs next to nothing may have none.
    """
    count, slack = len(units), 0.0
    if count <= most:
        return tuple(range(count + 1)), slack
    weigh = _Weighing(units, stations, micro_batch)
    kept = _kept(weigh, slack)
    while len(kept) >= most:
        slack = 2 * slack or FIRST_SLACK
        kept = _kept(weigh, slack)
    return (0, *kept, count), slack


def crossing(units: Sequence[Unit], position: int) -> int:
    """Bytes of one item that go from board to board at a cut: the boundary, and model inputs that are read later."""
    return boundary(units, position) + units[position - 1].carried_bytes_per_item if 0 < position < len(units) else 0


class _Weighing:
    """What it costs to move a border from one cut to another, as a share of what each board has."""

    def __init__(self, units: Sequence[Unit], stations: Sequence[Station], micro_batch: int) -> None:
        self.units, self.stations, self.micro_batch = units, stations, micro_batch
        self._known: dict[tuple[int, int], float] = {}
        self.times = [
            [unit_ns(unit, s.board.quant, s.board.mode, micro_batch, s.speed) for unit in units] for s in stations
        ]

    @cached_property
    def order(self) -> list[int]:
        """The cuts, those with fewest bytes first."""
        return sorted(range(1, len(self.units)), key=lambda p: (crossing(self.units, p), boundary(self.units, p), p))

    def share(self, here: int, there: int) -> float:
        """The largest share of any board's budget, or of its time for the whole model, that lies between two cuts.

        The segment that takes over what lies between holds at least the unit on the other side of `here`; whatever
        else it holds, it does not grow by more.
        """
        if (here, there) not in self._known:
            self._known[here, there] = max(self._share(k, here, there) for k in range(len(self.stations)))
        return self._known[here, there]

    def _share(self, k: int, here: int, there: int) -> float:
        board = self.stations[k].board
        first, last = min(here, there), max(here, there)
        beside = here - 1 if here < there else here
        span = (beside, last) if here < there else (first, here + 1)
        growth = self._need(k, *span) - self._need(k, beside, beside + 1) + adapters_of(self.units[first:last], board)
        growth += self._more(here, there)
        time = sum(self.times[k][first:last]) / max(1, sum(self.times[k]))
        return max(growth / max(1, board.budget_bytes), time)

    def _more(self, here: int, there: int) -> int:
        """What a segment that begins or ends there holds for it beyond what it would hold here."""
        before, after = self.units[here - 1], self.units[there - 1]
        copied = self.micro_batch * max(0, after.copied_bytes_per_item - before.copied_bytes_per_item)
        waits = max(0, boundary(self.units, there) - boundary(self.units, here))
        # in training what enters waits, and its gradient leaves
        return Need(0, copied).total - Need(0, 0).total + 2 * STEP_ITEMS * waits

    def _need(self, k: int, start: int, end: int) -> int:
        board = self.stations[k].board
        stretch = Stretch(board.quant, self.micro_batch, board.mode)
        for unit in self.units[start:end]:
            stretch.add(unit)
        return Need(stretch.weights, stretch.live).total


def _kept(weigh: _Weighing, slack: float) -> list[int]:
    """The cuts that no kept neighbour makes superfluous, in ascending order."""
    kept: list[int] = []
    for cut in weigh.order:
        at = bisect.bisect(kept, cut)
        if not any(weigh.share(cut, other) <= slack for other in kept[max(0, at - 1) : at + 1]):
            kept.insert(at, cut)
    return kept
