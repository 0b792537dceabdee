"""`edgequilt export MODEL --plan PLAN.json`: the bundles of a plan of a fleet (docs/plan.md, "The plan of a fleet").

Borders, formats, micro-batch and ranks are the plan's. Where a board's segments are cut is found again, for that
follows from graphs as they are measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.errors import BadData, UsageError
from console.table import shown
from devices.fleet import Fleet, Settings, station
from devices.fronts import BoardSplit, Front
from devices.plan import Board
from devices.split.fleet_plan import BoardPlan, FleetPlan, TailPlan
from devices.units import Unit
from export.formats.registry import QUANTS

if TYPE_CHECKING:
    from export.slots import SlotSite

ALONE = ("device", "across", "fleet", "split", "tail", "budget", "rank")  # options that a plan stands for


def as_planned(options: argparse.Namespace, plan: FleetPlan) -> None:
    """Set the options that a plan decides: how the model is looked at, and the micro-batch.

    Raises:
        UsageError: boards are named beside the plan.
    """
    named = [name for name in ALONE if getattr(options, name)]
    if named:
        raise UsageError(
            f"expected --plan to say which boards there are, found --{' and --'.join(named)} beside it; leave it out, "
            "or plan again with edgequilt plan"
        )
    seen = plan.model
    options.task, options.adapter_targets = seen.task or options.task, seen.targets
    options.adapter_kinds, options.tables = ",".join(seen.kinds), seen.tables
    options.sequence = options.sequence if seen.sequence is None else (seen.sequence,)
    options.micro_batches = (plan.micro_batch,)


def fleet_of(plan: FleetPlan, profiles: Path | None) -> Fleet:
    """The boards of a plan: those with the whole model, and those with fronts and their tail.

    Raises:
        UsageError: a profile, a format that there is none of, a board that can run no agent.
    """
    whole = tuple(_board(one, one.mode, profiles) for one in plan.boards if not one.in_front)
    fronts = tuple(Front(_board(one, one.mode, profiles), one.border) for one in plan.boards if one.in_front)
    if plan.tail is None:
        return Fleet(whole)
    return Fleet(whole, (), (BoardSplit(fronts, _board(plan.tail, "train", profiles)),))


def _board(one: BoardPlan | TailPlan, mode: str, profiles: Path | None) -> Board:
    if one.quant not in QUANTS:
        raise UsageError(f"expected a format of {', '.join(QUANTS)} for {one.device} of the plan, found {one.quant!r}")
    settings, rank = Settings(mode, one.quant, QUANTS, profiles), max(one.ranks.values(), default=1)
    return station(one.device, settings, profile=one.profile, budget_bytes=one.budget_bytes, rank=rank).board


def check_plan(plan: FleetPlan, units: Sequence[Unit], sites: Sequence[SlotSite], classes: int) -> None:
    """Whether a plan is one of this model.

    Args:
        plan: read.
        units: of the model, as it was prepared.
        sites: its slots.
        classes: of the head that is put on.

    Raises:
        BadData: it is of another model, or of another export.
    """
    names, slots = tuple(unit.name for unit in units), {site.name for site in sites}
    ranks = [board.ranks for board in plan.boards] + ([plan.tail.ranks] if plan.tail else [])
    strange = sorted({name for one in ranks for name in one} - slots)
    if plan.model.classes != classes:
        what = f"{plan.model.classes} classes, found {classes}"
    elif names != plan.units:
        at = next((k for k, pair in enumerate(zip(names, plan.units, strict=False)) if pair[0] != pair[1]), None)
        what = f"{len(plan.units)} units as in the plan, found {len(names)}"
        what += "" if at is None else f", unit {at} at {shown(names[at])} in the place of {shown(plan.units[at])}"
    elif strange:
        what = f"the slots of the plan, found none called {', '.join(shown(name) for name in strange[:3])}"
    else:
        return
    raise BadData(
        f"expected a model with {what}; the plan is of another model or of other options: plan again with edgequilt "
        "plan"
    )


def with_ranks(boards: BoardSplit, plan: FleetPlan, sites: Sequence[SlotSite]) -> BoardSplit:
    """A split whose boards have the plan's ranks of their slots."""
    fronts = tuple(replace(front, board=ranked(front.board, plan, sites)) for front in boards.fronts)
    return BoardSplit(fronts, ranked(boards.tail, plan, sites))


def ranked(board: Board, plan: FleetPlan, sites: Sequence[SlotSite]) -> Board:
    """A board with the adapters that a plan gives it: as large as all of them, of the largest rank.

    Args:
        board: one of the plan.
        plan: of its fleet.
        sites: all slots.
    """
    widths = {site.name: site.features_in + site.features_out for site in sites if site.kind == "lora"}
    ranks = _ranks(board.name, plan)
    values = sum(widths.get(name, 0) * rank for name, rank in ranks.items())
    return replace(board, rank=max(ranks.values(), default=1), adapter_values=values)


def _ranks(device: str, plan: FleetPlan) -> Mapping[str, int]:
    if plan.tail is not None and device == plan.tail.device:
        return plan.tail.ranks
    one = plan.board(device)
    return {} if one is None else one.ranks


def noted(device: str, plan: FleetPlan | None) -> dict[str, Any]:
    """What a manifest says of the plan of a fleet: ranks by slot, and how the board is to learn."""
    if plan is None:
        return {}
    found: dict[str, Any] = {"ranks": dict(_ranks(device, plan))}
    one = plan.board(device)
    if one is not None:
        found |= {"trainer": one.trainer, "batch": one.batch}
        found |= {"coding": one.coding, "labels": one.labels} if one.in_front else {}
        found |= {"step_ns": one.step_ns, "link_ns": one.link_ns} if one.link_ns else {}
    return found
