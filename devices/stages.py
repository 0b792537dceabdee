"""All ways to give neighbouring units to boards in a given order, and the best of them (docs/plan.md).

A board's stage is the best one for its span whatever the others do (fewest segments, then fewest bytes between
them), so what remains is a shortest path over the borders of the stages. The largest stage time is no sum: of the
least values its least is found first, and the path is then the shortest within it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from devices.covers import UNREACHED, Table
from devices.plan import Board, adapters_of, table_of
from devices.thin import crossing
from devices.times import LOADS, Speed, link_ns, ns, unit_ns
from devices.units import Unit, boundary

Objective: TypeAlias = Literal["fewest", "traffic", "throughput", "latency"]
Score = tuple[int, ...]
NEARLY = 20  # parts of a time, one of which more counts as equal where the objective is another


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
        places: Sequence[int],
        tables: dict[tuple[str, str], Table] | None = None,
    ) -> None:
        """Borders and cuts are indexes of `places`, see `devices.thin`; `tables` are kept from search to search."""
        self.units, self.stations, self.places = units, stations, places
        self.micro_batch, self.step_items = micro_batch, step_items
        self.count = len(places) - 1
        known = {} if tables is None else tables
        largest = UNREACHED if tables is not None else max(s.board.budget_bytes for s in stations)
        for s in stations:
            if (s.board.mode, s.board.quant) not in known:
                made = table_of(units, s.board, micro_batch, step_items, largest, places)
                known[s.board.mode, s.board.quant] = made
        self._tables = [known[s.board.mode, s.board.quant] for s in stations]
        self._lone = [self._first_lone(k) for k in range(len(stations))]
        self._adapters = [self._summed(adapters_of([unit], s.board) for unit in units) for s in stations]
        self._times = [
            self._summed(unit_ns(unit, s.board.quant, s.board.mode, micro_batch, s.speed) for unit in units)
            for s in stations
        ]
        self._free: dict[tuple[int, int], dict[int, tuple[int, ...]]] = {}
        self._cuts: dict[tuple[int, int, int], tuple[int, ...] | None] = {}

    def best(self, objective: Objective) -> tuple[Score, tuple[int, ...]] | None:
        """The least (value, segments, slowest stage or link, traffic, bytes within boards), and the borders.

        Where times only decide between equals, a slowest part within a twentieth of the least is as good.
        """
        slowest = self._shortest(lambda k, start, end: self._slowest(objective, k, start, end), _sum_max)
        if slowest is None:
            return None
        least = slowest[0][-1]
        limit = least if objective == "throughput" else least + least // NEARLY

        def within(k: int, start: int, end: int) -> Score | None:
            step = self._slowest(objective, k, start, end)
            return None if step is None or step[-1] > limit else self._price(objective, k, start, end)

        rest = self._shortest(within, _sum)
        if rest is None:
            return None
        (value, segments, traffic, inner), edges = rest
        return (least if objective == "throughput" else value, segments, least, traffic, inner), edges

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
                stops = [self.count] if last else range(start + 1, self._lone[k][start] + 1)
                self._free[k, start] = table.covers(start, stops, budget)
            free = self._free[k, start].get(end)
            room = budget - (self._adapters[k][end] - self._adapters[k][start])
            if free is not None and not table.fits(start, free, end, room):
                free = table.covers(start, [end], room).get(end)
            self._cuts[key] = free
        return self._cuts[key]

    def _summed(self, values: Iterable[int]) -> list[int]:
        """Sums of a figure of the units before each place."""
        sums = list(itertools.accumulate(values, initial=0))
        return [sums[at] for at in self.places]

    def _first_lone(self, k: int) -> list[int]:
        """From each place the first piece that does not fit board k even alone, which no stage can hold."""
        table, budget = self._tables[k], self.stations[k].board.budget_bytes
        out = [self.count] * (self.count + 1)
        for piece in reversed(range(self.count)):
            out[piece] = piece if int(table.need[piece, piece + 1]) > budget else out[piece + 1]
        return out

    def _shortest(
        self, price: Callable[[int, int, int], Score | None], combine: Callable[[Score, Score], Score]
    ) -> tuple[Score, tuple[int, ...]] | None:
        """Shortest path over the borders; `combine` must never prefer a longer way to the same border."""
        count, boards = self.count, len(self.stations)
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
        inner = sum(boundary(self.units, self.places[cut]) for cut in cuts)
        value = {"fewest": len(cuts) + 1, "traffic": traffic, "throughput": 0}.get(objective)
        if value is None:
            value = self.stage_ns(k, start, end) + self.links_ns(k, end)
        return (value, len(cuts) + 1, traffic, inner)

    def _slowest(self, objective: Objective, k: int, start: int, end: int) -> Score | None:
        price = self._price(objective, k, start, end)
        if price is None:
            return None
        slowest = max(self.stage_ns(k, start, end), self.links_ns(k, end))
        return (slowest,) if objective == "throughput" else (*price[:2], slowest)

    def crossing(self, end: int) -> int:
        """Bytes of one item that go to the next board."""
        return crossing(self.units, self.places[end])

    def stage_ns(self, k: int, start: int, end: int) -> int:
        """Time of a stage for one micro-batch; several segments are loaded anew at every pass."""
        board, speed = self.stations[k].board, self.stations[k].speed
        loading = 0
        if self.cuts(k, start, end):
            weights = sum(unit.weight_bytes[board.quant] for unit in self.units[self.places[start] : self.places[end]])
            loading = LOADS.get(board.mode, 1) * ns(weights, speed.bytes_per_s)
        return self._times[k][end] - self._times[k][start] + loading

    def links_ns(self, k: int, end: int) -> int:
        """Time of one micro-batch over the link behind board k."""
        if k == len(self.stations) - 1:
            return 0
        both = (self.stations[k].speed.link_bytes_per_s, self.stations[k + 1].speed.link_bytes_per_s)
        rate = self.stations[k].link_bytes_per_s or min(both)
        return link_ns(self.crossing(end), self.stations[k].board.mode, self.micro_batch, rate)


def _sum(a: Score, b: Score) -> Score:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _sum_max(a: Score, b: Score) -> Score:
    return (*_sum(a[:-1], b[:-1]), max(a[-1], b[-1]))
