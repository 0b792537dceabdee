"""All ways to give neighbouring units to boards in a given order, and the best of them (docs/plan.md).

A board's stage is the best one for its span whatever the others do (fewest segments, then fewest bytes between
them), so what remains is a shortest path over the borders of the stages. The largest stage time is no sum: it is
minimised first, and the path is then the shortest within it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from devices.covers import UNREACHED, Table
from devices.plan import Board, Unit, adapters_of, boundary, table_of
from devices.times import LOADS, Speed, link_ns, ns, unit_ns

Objective: TypeAlias = Literal["fewest", "traffic", "throughput", "latency"]
Score = tuple[int, ...]


@dataclass(frozen=True)
class Station:
    """A board of the chain and how fast it is.

    The link to the next has `link_bytes_per_s` where that is known, else the slower rate of the two boards.
    """

    board: Board
    speed: Speed
    link_bytes_per_s: int | None = None


class Search:
    """All stages of all boards at one micro-batch, each looked at once."""

    def __init__(
        self,
        units: Sequence[Unit],
        stations: Sequence[Station],
        micro_batch: int,
        step_items: int,
        tables: dict[tuple[str, str], Table] | None = None,
    ) -> None:
        self.units, self.stations = units, stations
        self.micro_batch, self.step_items = micro_batch, step_items
        known = {} if tables is None else tables
        largest = UNREACHED if tables is not None else max(s.board.budget_bytes for s in stations)
        for s in stations:
            if (s.board.mode, s.board.quant) not in known:
                made = table_of(units, s.board, micro_batch, step_items, largest)
                known[s.board.mode, s.board.quant] = made
        self._tables = [known[s.board.mode, s.board.quant] for s in stations]
        self._lone = [self._first_lone(k) for k in range(len(stations))]
        self._adapters = [self._summed(s.board) for s in stations]
        self._times = [self._running(s) for s in stations]
        self._free: dict[tuple[int, int], dict[int, tuple[int, ...]]] = {}
        self._cuts: dict[tuple[int, int, int], tuple[int, ...] | None] = {}

    def best(self, objective: Objective) -> tuple[Score, tuple[int, ...]] | None:
        """The least (value, segments, traffic, bytes within boards), and the borders of the stages."""
        if objective != "throughput":
            return self._shortest(lambda k, start, end: self._price(objective, k, start, end), _sum)
        bottleneck = self._shortest(self._slowest, _max)
        if bottleneck is None:
            return None
        limit = bottleneck[0][0]

        def within(k: int, start: int, end: int) -> Score | None:
            slowest = self._slowest(k, start, end)
            return None if slowest is None or slowest[0] > limit else self._price(objective, k, start, end)

        rest = self._shortest(within, _sum)
        return None if rest is None else ((limit, *rest[0][1:]), rest[1])

    def possible(self) -> bool:
        """Whether some borders fit."""
        return (
            self._shortest(lambda k, start, end: None if self.cuts(k, start, end) is None else (0,), _sum) is not None
        )

    def cuts(self, k: int, start: int, end: int) -> tuple[int, ...] | None:
        """The cuts within a stage of board k; None if it does not fit.

        Adapters of a stage grow with it. So all stages from one start are first solved together as if they had
        no adapters; a solution that fits with them is the best one all the same, else this stage is solved alone.
        """
        key = (k, start, end)
        if key not in self._cuts:
            table, budget = self._tables[k], self.stations[k].board.budget_bytes
            if (k, start) not in self._free:
                last = k == len(self.stations) - 1
                stops = [len(self.units)] if last else range(start + 1, self._lone[k][start] + 1)
                self._free[k, start] = table.covers(start, stops, budget)
            free = self._free[k, start].get(end)
            room = budget - (self._adapters[k][end] - self._adapters[k][start])
            if free is not None and not table.fits(start, free, end, room):
                free = table.covers(start, [end], room).get(end)
            self._cuts[key] = free
        return self._cuts[key]

    def _summed(self, board: Board) -> list[int]:
        """Bytes that a board holds for the units before each position."""
        return list(itertools.accumulate((adapters_of([unit], board) for unit in self.units), initial=0))

    def _first_lone(self, k: int) -> list[int]:
        """From each start the first unit that does not fit board k even alone, which no stage can hold."""
        table, budget, count = self._tables[k], self.stations[k].board.budget_bytes, len(self.units)
        out = [count] * (count + 1)
        for unit in reversed(range(count)):
            out[unit] = unit if int(table.need[unit, unit + 1]) > budget else out[unit + 1]
        return out

    def _shortest(
        self, price: Callable[[int, int, int], Score | None], combine: Callable[[Score, Score], Score]
    ) -> tuple[Score, tuple[int, ...]] | None:
        """Shortest path over the borders; `combine` must never prefer a longer way to the same border."""
        count, boards = len(self.units), len(self.stations)
        best: dict[int, tuple[Score, tuple[int, ...]]] = {0: ((), (0,))}
        for k in range(boards):
            reached: dict[int, tuple[Score, tuple[int, ...]]] = {}
            for start, (score, edges) in best.items():
                for end in self._stops(k, start, count - (boards - 1 - k)):
                    step = price(k, start, end)
                    if step is None:
                        continue
                    candidate = (combine(score, step) if score else step, (*edges, end))
                    if end not in reached or candidate < reached[end]:
                        reached[end] = candidate
            best = reached
        return best.get(count)

    def _stops(self, k: int, start: int, last: int) -> Iterable[int]:
        """Where a stage of board k may end: no further than its first unit that does not fit alone."""
        alone = self._lone[k][start]
        if k == len(self.stations) - 1:
            return (last,) if start < last <= alone else ()
        return range(start + 1, min(last, alone) + 1)

    def _price(self, objective: Objective, k: int, start: int, end: int) -> Score | None:
        cuts = self.cuts(k, start, end)
        if cuts is None:
            return None
        traffic = self.crossing(end)
        inner = sum(boundary(self.units, cut) for cut in cuts)
        value = {"fewest": len(cuts) + 1, "traffic": traffic, "throughput": 0}.get(objective)
        if value is None:
            value = self.stage_ns(k, start, end) + self.links_ns(k, end)
        return (value, len(cuts) + 1, traffic, inner)

    def _slowest(self, k: int, start: int, end: int) -> Score | None:
        if self.cuts(k, start, end) is None:
            return None
        return (max(self.stage_ns(k, start, end), self.links_ns(k, end)),)

    def crossing(self, end: int) -> int:
        """Bytes of one item that go to the next board: the boundary, and model inputs that are read later."""
        return 0 if end == len(self.units) else boundary(self.units, end) + self.units[end - 1].carried_bytes_per_item

    def stage_ns(self, k: int, start: int, end: int) -> int:
        """Time of a stage for one micro-batch; several segments are loaded anew at every pass."""
        board, speed = self.stations[k].board, self.stations[k].speed
        loading = 0
        if self.cuts(k, start, end):
            weights = sum(unit.weight_bytes[board.quant] for unit in self.units[start:end])
            loading = LOADS.get(board.mode, 1) * ns(weights, speed.bytes_per_s)
        return self._times[k][end] - self._times[k][start] + loading

    def links_ns(self, k: int, end: int) -> int:
        """Time of one micro-batch over the link behind board k."""
        if k == len(self.stations) - 1:
            return 0
        both = (self.stations[k].speed.link_bytes_per_s, self.stations[k + 1].speed.link_bytes_per_s)
        rate = self.stations[k].link_bytes_per_s or min(both)
        return link_ns(self.crossing(end), self.stations[k].board.mode, self.micro_batch, rate)

    def _running(self, station: Station) -> list[int]:
        board, sums = station.board, [0]
        for unit in self.units:
            sums.append(sums[-1] + unit_ns(unit, board.quant, board.mode, self.micro_batch, station.speed))
        return sums


def _sum(a: Score, b: Score) -> Score:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _max(a: Score, b: Score) -> Score:
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))
