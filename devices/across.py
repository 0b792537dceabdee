"""One model over several boards in a given order: who runs what, exactly (docs/plan.md, "Across boards").

The search itself is in `devices.stages`. Here the micro-batch is chosen, the plan is put into words, and what does
not fit is refused with what would do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from console.errors import DoesNotFit
from console.table import mib
from devices.covers import Table
from devices.memory import MIB
from devices.plan import (
    PRECISION_BYTES,
    STEP_ITEMS,
    Board,
    Decision,
    Unit,
    needs,
    rank_for,
)
from devices.stages import Objective, Search, Station
from devices.thin import places_of

MOST_OF_A_REFUSAL = 64  # cuts: what would do on fewer cuts does on all of them
OBJECTIVES: tuple[Objective, ...] = ("fewest", "traffic", "throughput", "latency")
Models = Mapping[int, Sequence[Unit]]  # by micro-batch; all have the same units, with the numbers of their graphs


@dataclass(frozen=True)
class StagePlan:
    """What one board runs: units `start` to `end`, exclusive; `decision.cuts` are those within."""

    start: int
    end: int
    decision: Decision
    time_ns: int


@dataclass(frozen=True)
class ChainPlan:
    """One stage per board. `traffic_bytes` of one item over all links; `links_ns` of one micro-batch over each."""

    stages: tuple[StagePlan, ...]
    micro_batch: int
    objective: Objective
    traffic_bytes: int
    links_ns: tuple[int, ...]

    @property
    def cuts(self) -> tuple[int, ...]:
        """All cuts of the model, those between boards and those within."""
        inner = {cut for stage in self.stages for cut in stage.decision.cuts}
        return tuple(sorted(inner | {stage.start for stage in self.stages[1:]}))


def across(
    models: Models, stations: Sequence[Station], objective: Objective, step_items: int = STEP_ITEMS
) -> ChainPlan:
    """Decide who runs what.

    Args:
        models: the units by allowed micro-batch; legal cuts lie between neighbours.
        stations: the boards in their order; each gets at least one unit.
        objective: `fewest` segments; `traffic`, least bytes of one item between boards; `throughput`, least time
            of the slowest stage or link per item; `latency`, least sum of all stage and link times of one run.
            Of equals the one with fewest segments, then the largest micro-batch, then the least slowest stage.
        step_items: items whose boundary tensors wait between segments of one board.

    Raises:
        DoesNotFit: no cut fits at any micro-batch; names the board and what would do.
    """
    ranked = [replace(s, board=_ranked(s.board)) for s in stations]
    found: tuple[tuple[Fraction | int, ...], Search, tuple[int, ...], float] | None = None
    for micro_batch in sorted(models, reverse=True):
        places, slack = places_of(models[micro_batch], ranked, micro_batch)
        search = Search(models[micro_batch], ranked, micro_batch, step_items, places)
        best = search.best(objective)
        if best is None:
            continue
        (value, segments, slowest, traffic, inner), edges = best
        shared = Fraction(value, micro_batch) if objective == "throughput" else value
        key = (shared, segments, -micro_batch, slowest, traffic, inner)
        if found is None or key < found[0]:
            found = (key, search, edges, slack)
        if objective == "fewest" and segments == len(stations):
            break
    if found is None:
        raise DoesNotFit(_refusal(models[min(models)], ranked, min(models), step_items))
    return _plan(found[1], found[2], objective, stations, found[3])


def _ranked(board: Board) -> Board:
    return board if board.rank is not None else replace(board, rank=rank_for(board.budget_bytes))


def _plan(
    search: Search, edges: tuple[int, ...], objective: Objective, given: Sequence[Station], slack: float
) -> ChainPlan:
    """The borders as a plan, with reasons."""
    stages, places = [], search.places
    thinned = f"{len(places) - 2} of {len(search.units) - 1} legal cuts looked at, slack {slack:.2g}"
    for k, station in enumerate(search.stations):
        board, span = station.board, (places[edges[k]], places[edges[k + 1]])
        cuts = tuple(places[cut] for cut in search.cuts(k, edges[k], edges[k + 1]) or ())
        found = needs(search.units, board, cuts, search.micro_batch, search.step_items, span)
        predicted = tuple(need.total for need in found)
        time_ns = search.stage_ns(k, edges[k], edges[k + 1])
        rank = "" if given[k].board.rank is not None else f" for a budget of {mib(board.budget_bytes)}"
        reasons = (
            f"rank {board.rank}{rank}",
            f"largest segment {mib(max(predicted))} of {mib(board.budget_bytes)}",
            f"stage {k + 1} of {len(edges) - 1}, objective {objective}: units {span[0]} to {span[1] - 1}",
            *([f"at least {time_ns / 1e6:.3g} ms per micro-batch by {station.speed.source}"] * station.speed.known),
            *([thinned] * (len(places) <= len(search.units))),
        )
        decision = Decision(cuts, search.micro_batch, board.rank or 0, predicted, reasons)
        stages.append(StagePlan(*span, decision, time_ns))
    traffic = sum(search.crossing(end) for end in edges[1:])
    links = tuple(search.links_ns(k, end) for k, end in enumerate(edges[1:-1]))
    return ChainPlan(tuple(stages), search.micro_batch, objective, traffic, links)


def _refusal(units: Sequence[Unit], stations: Sequence[Station], micro_batch: int, step_items: int) -> str:
    names = ", ".join(s.board.name for s in stations)
    if len(units) < len(stations):
        return (
            f"expected a model with a piece for each of {len(stations)} boards ({names}), found {len(units)} "
            f"{'piece' if len(units) == 1 else 'pieces'} between legal cuts; name fewer boards"
        )
    alone = [(k, _smallest(units, stations, (k,), micro_batch, step_items)) for k in range(len(stations))]
    ways = [(size - stations[k].board.budget_bytes, k, size) for k, size in alone if size is not None]
    others = "a board more, or a smaller --sequence"
    if ways:
        _, k, size = min(ways)
        board = stations[k].board
        return (
            f"expected this model to fit across {names}, but it does not: board {k + 1}, {board.name}, has a budget "
            f"of {mib(board.budget_bytes)} and would need {mib(size)} beside the others as they are (micro-batch "
            f"{micro_batch}); try --budget {board.name}={size}, a larger board in its place, {others}"
        )
    least = _smallest(units, stations, range(len(stations)), micro_batch, step_items) or 0
    small = [f"board {k + 1}, {s.board.name} ({mib(s.board.budget_bytes)})" for k, s in enumerate(stations)]
    tight = [words for s, words in zip(stations, small, strict=True) if s.board.budget_bytes < least]
    return (
        f"expected this model to fit across {names}, but no one larger budget would do: {' and '.join(tight)} are too "
        f"small; {mib(least)} for each of them would do (micro-batch {micro_batch}); try that --budget, {others}"
    )


def _smallest(
    units: Sequence[Unit], stations: Sequence[Station], raised: Iterable[int], micro_batch: int, step_items: int
) -> int | None:
    """The smallest budget that would do for some boards, the others as they are (or as they have more)."""
    chosen = set(raised)
    tables: dict[tuple[str, str], Table] = {}
    places, _ = places_of(units, stations, micro_batch, MOST_OF_A_REFUSAL)

    def fits(budget: int) -> bool:
        more = [
            replace(s, board=replace(s.board, budget_bytes=max(budget, s.board.budget_bytes))) if k in chosen else s
            for k, s in enumerate(stations)
        ]
        return Search(units, more, micro_batch, step_items, places, tables).possible()

    low = 0
    high = max(needs(units, s.board, (), micro_batch, step_items)[0].total for s in stations) + _all_boundaries(
        units, step_items
    )
    if not fits(high):
        return None
    while high - low > PRECISION_BYTES:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _all_boundaries(units: Sequence[Unit], step_items: int) -> int:
    return 3 * step_items * sum(unit.boundary_bytes_per_item for unit in units) + MIB
