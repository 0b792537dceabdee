"""A chain of boards that a model does not fit: who is short, by how much, what takes the room, and who would do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from console.table import mib, shown
from devices.covers import Table
from devices.enough import KnownBoard, held_by, smallest_budget, that_would_do
from devices.memory import MIB, Need
from devices.plan import most_needed, needs, with_budget
from devices.stages import Search, Station
from devices.thin import places_of
from devices.units import Unit

MOST_CUTS = 64  # what would do on fewer cuts does on all of them


def refusal(
    units: Sequence[Unit],
    stations: Sequence[Station],
    micro_batch: int,
    step_items: int,
    known: Sequence[KnownBoard] | None,
) -> str:
    """Why no cut fits, and what would do.

    Args:
        units: the model.
        stations: the boards in their order; ranks that are not given go with what each budget is raised to.
        micro_batch: the smallest.
        step_items: see `devices.across.across`.
        known: boards that may be named; None where nobody has looked.
    """
    names = ", ".join(s.board.name for s in stations)
    if len(units) < len(stations):
        return (
            f"expected a model with a piece for each of {len(stations)} boards ({names}), found {len(units)} "
            f"{'piece' if len(units) == 1 else 'pieces'} between legal cuts; name fewer boards"
        )
    short = _Shortfall(units, stations, micro_batch, step_items)
    alone = [(k, short.smallest((k,))) for k in range(len(stations))]
    ways = [(size - stations[k].board.budget_bytes, k, size) for k, size in alone if size is not None]
    words = _one_larger(short, *min(ways)[1:], known) if ways else _all_larger(short, known)
    return f"expected this model to fit across {names}, but {words}, a board more, or a smaller --sequence"


def _one_larger(short: _Shortfall, k: int, size_bytes: int, known: Sequence[KnownBoard] | None) -> str:
    board = short.stations[k].board
    would = that_would_do(known, lambda budget: short.fits((k,), budget), " in its place")
    return (
        f"it does not: board {k + 1}, {board.name}, has a budget of {mib(board.budget_bytes)} and would need "
        f"{mib(size_bytes)} beside the others as they are ({short.room((k,), size_bytes)}){would}; try "
        f"--budget {board.name}={size_bytes}, a larger board in its place"
    )


def _all_larger(short: _Shortfall, known: Sequence[KnownBoard] | None) -> str:
    least = short.smallest(range(len(short.stations))) or 0
    tight = [k for k, station in enumerate(short.stations) if station.board.budget_bytes < least]
    boards = [(k + 1, short.stations[k].board) for k in tight]
    small = " and ".join(f"board {number}, {board.name} ({mib(board.budget_bytes)})" for number, board in boards)
    would = that_would_do(known, lambda budget: short.fits(tight, budget), " in the place of each")
    return (
        f"no one larger budget would do: {small} are too small; {mib(least)} for each of them would do "
        f"({short.room(tight, least)}){would}; try that --budget"
    )


class _Shortfall:
    """Budgets that some boards are raised to, while the others stay as they are (or have more)."""

    def __init__(self, units: Sequence[Unit], stations: Sequence[Station], micro_batch: int, step_items: int) -> None:
        self.units, self.stations = units, stations
        self.micro_batch, self.step_items = micro_batch, step_items
        self._tables: dict[tuple[str, str], Table] = {}
        self._places, _ = places_of(units, self._raised((), 0), micro_batch, MOST_CUTS)

    def smallest(self, chosen: Collection[int]) -> int | None:
        """The smallest budget that would do for some boards; None if none would."""
        whole = (most_needed(self.units, s.board, (), self.micro_batch, self.step_items) for s in self.stations)
        boundaries = 3 * self.step_items * sum(unit.boundary_bytes_per_item for unit in self.units) + MIB
        return smallest_budget(lambda budget: self.fits(chosen, budget), max(whole) + boundaries)

    def fits(self, chosen: Collection[int], budget_bytes: int) -> bool:
        """Whether a budget would do for some boards."""
        return self._search(chosen, budget_bytes).possible()

    def room(self, chosen: Collection[int], budget_bytes: int) -> str:
        """What takes the room on the fullest of some boards when they have a budget that does."""
        search = self._search(chosen, budget_bytes)
        found = search.best("fewest")
        if found is None:
            raise AssertionError("possible and best disagree")
        pieces: list[tuple[Need, str]] = []
        for k in chosen:
            start, end = found[1][k : k + 2]
            span = (self._places[start], self._places[end])
            cuts = tuple(self._places[cut] for cut in search.cuts(k, start, end) or ())
            board = search.stations[k].board
            own = needs(self.units, board, cuts, self.micro_batch, self.step_items, span)
            pieces += zip(own, (self.units[at].name for at in (span[0], *cuts)), strict=True)
        need, name = max(pieces, key=lambda piece: piece[0].total)
        return f"micro-batch {self.micro_batch}; in the piece at {shown(name)}: {held_by(need)}"

    def _search(self, chosen: Collection[int], budget_bytes: int) -> Search:
        stations = self._raised(chosen, budget_bytes)
        return Search(self.units, stations, self.micro_batch, self.step_items, self._places, self._tables)

    def _raised(self, chosen: Collection[int], budget_bytes: int) -> list[Station]:
        out = []
        for k, station in enumerate(self.stations):
            own = station.board.budget_bytes
            more = max(budget_bytes, own) if k in chosen else own
            out.append(replace(station, board=with_budget(station.board, more)))
        return out
