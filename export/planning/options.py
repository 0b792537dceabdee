"""The command line of `edgequilt plan`, as a request: what can be refused without a model is refused here."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from console.arguments import Arguments
from console.duration import seconds
from console.errors import UsageError
from devices.plan import STEP_ITEMS
from devices.split.fleet_plan import FleetPlan, Trainer, read_fleet_plan
from devices.split.work import BATCHES, STEPS, Terms
from export.arguments_plan import grid, keeping, planning_options, sizes, states
from export.formats.registry import QUANTS
from export.labels import read_labels
from export.planning.members import TRAINERS, Crew, crew_of
from wire.importance.file import METHODS, Importance, read_importance
from wire.importance.moved import THRESHOLD

DECODERS = "text-generation"
MOST = 1 << 20  # steps, or items of a step


@dataclass(frozen=True)
class Asked:
    """What was read before a model is looked at.

    Attributes:
        crew: who is planned for.
        terms: of a round.
        labels: of a head that is put on.
        given: importance from a file.
        before: a plan that may stay.
    """

    crew: Crew
    terms: Terms
    labels: tuple[str, ...]
    given: Importance | None
    before: FleetPlan | None


def parser() -> argparse.ArgumentParser:
    """All options, with their help."""
    p = Arguments(
        prog="edgequilt plan",
        description="Decide who holds what of a model in a fleet, of which ranks, and say what it takes and why.",
    )
    planning_options(p)
    p.add_argument("--tail", default="", metavar="NAME", help="who holds what fronts leave over: a device or a profile")
    p.add_argument(
        "--trainer", action="append", default=[], choices=TRAINERS, help="that boards may use; repeat (default: all)"
    )
    p.add_argument("--formats", type=formats, metavar="A,B", help="of weights, to choose from; the preferred one first")
    p.add_argument("--steps", type=counted, default=STEPS, metavar="N", help=f"of a round (default: {STEPS})")
    p.add_argument("--batch", type=counted, default=STEP_ITEMS, metavar="N", help=f"of a step (default: {STEP_ITEMS})")
    p.add_argument("--equal-times", action="store_true", help="rounds as long on each board as on the others")
    p.add_argument(
        "--deadline", type=seconds, metavar="30s", help="of a round, instead of the least; with --equal-times"
    )
    p.add_argument("--items", type=counted, default=0, metavar="N", help="of a round of the fleet; with --equal-times")
    p.add_argument("--coding", choices=("float32", "float16", "int8"), default="int8", help="of what crosses")
    p.add_argument("--labels-stay", action="store_true", help="on the boards: the loss is computed there")
    p.add_argument("--importance", type=Path, metavar="FILE.json", help="of slots (docs/importance.md)")
    p.add_argument("--importance-by", choices=METHODS, help="(default: hsplitlora; with --equal-times fedpipe)")
    p.add_argument("--write-importance", type=Path, metavar="FILE.json", help="what --data gave")
    p.add_argument("--since", type=Path, metavar="PLAN.json", help="that stays unless importance moved")
    p.add_argument("--moved", type=share, default=THRESHOLD, metavar="SHARE", help=f"at least (default: {THRESHOLD})")
    p.add_argument("--out", type=Path, metavar="PLAN.json", help="for edgequilt export --plan")
    p.add_argument("--html", type=Path, metavar="FILE", help="also write a page, which needs nothing else")
    p.add_argument("--json", action="store_true", help="print the plan as JSON, and no progress")
    return p


def asked_by(options: argparse.Namespace) -> Asked:
    """Everything that can be refused before a model is looked at.

    Raises:
        UsageError: options that do not go together, or name nothing.
        BadData, StorageError: a file is not what it should be.
    """
    if options.across or options.objective:
        raise UsageError(
            "expected boards each for itself, found --across or --objective; chains are edgequilt export's"
        )
    if not options.equal_times and (options.deadline or options.items):
        raise UsageError("expected --deadline and --items beside --equal-times, found it missing; add it")
    if options.write_importance and (not options.data or options.importance):
        raise UsageError("expected --write-importance beside --data, and no --importance: it is measured on the data")
    for file in (options.out, options.html, options.write_importance):
        if file is not None and not file.resolve().parent.is_dir():
            raise UsageError(f"expected a folder for {file}, found none; make it first")
    for check in (sizes, states, keeping, grid):
        check(options)
    decodes = (options.task or "").startswith(DECODERS)
    if decodes:
        options.trainer = _of_decoders(options)
    labels = read_labels(options.labels, options.data) if options.labels or (options.data and not decodes) else ()
    given = None if options.importance is None else read_importance(options.importance)
    before = None if options.since is None else read_fleet_plan(options.since)
    return Asked(crew_of(options), _terms(options), labels, given, before)


def _of_decoders(options: argparse.Namespace) -> list[Trainer]:
    """The trainers of boards where there are no classes: no head of a board's own, and no last layer that it has.

    Raises:
        UsageError: such a one was asked for.
    """
    if options.labels_stay or "local" in options.trainer:
        found = "--labels-stay" if options.labels_stay else "--trainer local"
        raise UsageError(f"expected a model with a head for {found}, found --task {options.task}; leave it out")
    return [trainer for trainer in options.trainer or TRAINERS if trainer != "local"]


def _terms(options: argparse.Namespace) -> Terms:
    return Terms(
        "time" if options.equal_times else "importance",
        options.steps,
        BATCHES if options.equal_times else (options.batch,),
        None if options.deadline is None else round(options.deadline * 1e9),
        options.items,
        options.coding,
        "stay" if options.labels_stay else "along",
    )


def counted(text: str) -> int:
    """A number of steps or items.

    >>> counted("16")
    16

    Raises:
        UsageError: it is none.
    """
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST:
        raise UsageError(f"expected a whole number of 1 to {MOST}, found {text!r}")
    return int(text)


def formats(text: str) -> tuple[str, ...]:
    """Formats of weights, the preferred one first.

    >>> formats("int8,int4")
    ('int8', 'int4')

    Raises:
        UsageError: one that there is not.
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not set(names) <= set(QUANTS):
        raise UsageError(f"expected formats of {', '.join(QUANTS)}, as in int8,int4, found {text!r}")
    return names


def share(text: str) -> float:
    """A share.

    >>> share("0.1")
    0.1

    Raises:
        UsageError: it is none.
    """
    if not re.fullmatch(r"[01](\.\d*)?", text) or not 0 <= float(text) <= 1:
        raise UsageError(f"expected a share of 0 to 1, found {text!r}")
    return float(text)
