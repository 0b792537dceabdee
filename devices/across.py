"""One model over several boards in a given order: who runs what, exactly (docs/plan.md, "Across boards").

The search itself is in `devices.stages`. Here the micro-batch is chosen and the plan is put into words; what does
not fit is refused with what would do (`devices.shortfall`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from console.errors import DoesNotFit
from console.table import mib
from devices.enough import KnownBoard
from devices.plan import STEP_ITEMS, Decision, needs, with_budget
from devices.shortfall import refusal
from devices.stages import Objective, Search, Station
from devices.thin import places_of
from devices.units import Unit

OBJECTIVES: tuple[Objective, ...] = ("fewest", "traffic", "throughput", "latency")
Models = Mapping[int, Sequence[Unit]]  # by micro-batch; all have the same units, with the numbers of their graphs


@dataclass(frozen=True)
class StagePlan:
    """What one board runs: units `start` to `end`, exclusive; `decision.cuts` are those within."""

    start: int
    end: int
    decision: Decision


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
    models: Models,
    stations: Sequence[Station],
    objective: Objective,
    step_items: int = STEP_ITEMS,
    known: Sequence[KnownBoard] | None = None,
) -> ChainPlan:
    """Decide who runs what.

    Args:
        models: the units by allowed micro-batch; legal cuts lie between neighbours.
        stations: the boards in their order; each gets at least one unit.
        objective: `fewest` segments; `traffic`, least bytes of one item between boards; `throughput`, least time
            of the slowest stage or link per item; `latency`, least sum of all stage and link times of one run.
            Of equals the one with fewest segments, then the largest micro-batch, then the least slowest stage.
        step_items: items whose boundary tensors wait between segments of one board.
        known: boards that a refusal may name; None where nobody has looked.

    Raises:
        DoesNotFit: no cut fits at any micro-batch; names the board and what would do.
    """
    ranked = [replace(s, board=with_budget(s.board, s.board.budget_bytes)) for s in stations]
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
        raise DoesNotFit(refusal(models[min(models)], stations, min(models), step_items, known))
    return _plan(found[1], found[2], objective, stations, found[3])


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
        stages.append(StagePlan(*span, decision))
    traffic = sum(search.crossing(end) for end in edges[1:])
    links = tuple(search.links_ns(k, end) for k, end in enumerate(edges[1:-1]))
    return ChainPlan(tuple(stages), search.micro_batch, objective, traffic, links)
