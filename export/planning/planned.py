"""A model that is captured, counted, measured where there are rows, and planned for."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

from console.progress import Progress, progress
from console.table import percent
from devices.fleet import known_boards
from devices.split.fleet_plan import Captured, FleetPlan
from devices.split.planner import plan_fleet
from devices.split.steady import far, why_again
from devices.split.work import Importance, shares
from export.importance.measure import measure
from export.planning.model import model_work
from export.planning.options import Asked
from export.prepare import Prepared, prepare
from export.stoppable import stoppable
from export.study.data import read_items
from export.targets import AUTO, EVERY_BLOCK
from export.wanted import wanted
from wire.files import write_atomic
from wire.importance.file import Method, to_bytes


def planned(options: argparse.Namespace, asked: Asked) -> tuple[FleetPlan, str]:
    """The plan; and where an earlier one stays, that one and the words for it.

    Raises:
        DoesNotFit: the fleet cannot hold the model, or not keep the deadline.
        UsageError, UnsupportedModel, BadData, StorageError: the model, or its rows.
    """
    crew = asked.crew
    if crew.tail is not None and options.adapter_targets == AUTO:
        options.adapter_targets = EVERY_BLOCK  # fronts are the lower blocks, and have to have slots
    everyone = [*crew.boards, *([crew.tail] if crew.tail else [])]
    formats = tuple(dict.fromkeys(quant for member in everyone for quant in member.quants))
    with (
        stoppable(),
        tempfile.TemporaryDirectory(prefix="edgequilt-plan-") as work,
        progress("planning", 3, quiet=options.json) as bar,
    ):
        bar.say("capturing the model")
        prepared = prepare(wanted(options, asked.labels), formats, ("train",), Path(work))
        bar.advance()
        model = model_work(prepared)
        scores, source = _scores(options, asked, prepared, [slot.name for slot in model.slots], Path(work), bar)
        bar.advance()
        importance = Importance(shares(model.slots, scores), source)
        captured = _captured(options, asked, prepared)
        bar.say(f"planning for {len(crew.boards)} boards")
        if asked.before is not None:
            why = why_again(asked.before, captured, crew.boards, crew.tail, asked.terms, importance, options.moved)
            if not why:
                share = percent(far(asked.before.importance, importance.of))
                return asked.before, f"{options.since} stays: {share} of the importance moved"
        known = known_boards(options.profiles)
        return plan_fleet(model, crew.boards, crew.tail, asked.terms, importance, captured, known), ""


def _scores(
    options: argparse.Namespace, asked: Asked, prepared: Prepared, slots: list[str], work: Path, bar: Progress
) -> tuple[Mapping[str, float] | None, str]:
    """Importance by slot from a file, or measured on rows; None where there are neither; and where it is from."""
    method: Method = options.importance_by or ("fedpipe" if options.equal_times else "hsplitlora")
    if asked.given is not None:
        found, source = asked.given, f"{method}, {options.importance.name}"
    elif options.data is not None:
        bar.say("measuring importance")
        found = measure(prepared, read_items(options.data), asked.labels, work)
        source = f"{method}, measured on {found.rows} rows of {options.data.name}"
    else:
        return None, "uniform"
    if options.write_importance is not None:
        write_atomic(options.write_importance, to_bytes(found))
    return found.of(slots, method), source


def _captured(options: argparse.Namespace, asked: Asked, prepared: Prepared) -> Captured:
    return Captured(
        options.model,
        options.task or "",
        prepared.sequence,
        len(asked.labels),
        options.adapter_targets,
        tuple(kind.strip() for kind in options.adapter_kinds.split(",")),
        options.tables,
    )
