"""`edgequilt devices fits MODEL_OR_BUNDLE --device NAME ...`: which boards could take it, and what each would run."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from console.arguments import Arguments
from console.errors import DoesNotFit
from console.progress import progress
from console.table import mib, table
from devices.fleet import Settings, known_boards, station
from devices.profile import NoAgent, UnknownProfile, load, require_agent
from devices.stages import Station
from export.arguments import fleet
from export.arguments_plan import grid, keeping, planning_options, sizes, states
from export.fits import Fit, of_bundle, of_model
from export.formats.registry import QUANTS
from export.labels import read_labels
from wire.bundle import MANIFEST, open_bundle

HEADER = ("board", "fits", "budget", "needs", "segments", "micro-batch", "rank", "per item, at least")


def fits(argv: list[str]) -> int:
    """Print a row per board; returns the exit code, which is 12 if a board that was named is too small."""
    options = _parser().parse_args(argv)
    named = bool(options.device or options.budget or options.fleet)
    if not named:
        options.device = [board.name for board in known_boards(options.profiles)]
    refused = _without_agent(options)
    found = [*refused, *(_of_bundle(options) if _is_bundle(options.model) else _of_model(options))]
    print(json.dumps([asdict(fit) for fit in found], indent=1) if options.json else _words(found))
    return DoesNotFit.exit_code if named and not all(fit.fits for fit in found) else 0


def _parser() -> argparse.ArgumentParser:
    p = Arguments(
        prog="edgequilt devices fits",
        description="Say which boards a model or a bundle fits, and how; nothing is written.",
    )
    planning_options(p)
    p.add_argument("--json", action="store_true", help="print JSON, and no progress")
    return p


def _is_bundle(source: str) -> bool:
    return (Path(source) / MANIFEST).is_file()


def _without_agent(options: argparse.Namespace) -> list[Fit]:
    """Boards that are named and run no agent: a row each, and planning goes on without them."""
    refused = {name: _refusal(name, options.profiles) for name in dict.fromkeys(options.device)}
    options.device = [name for name, why in refused.items() if not why]
    return [Fit(name, False, 0, why=(why,)) for name, why in refused.items() if why]


def _refusal(name: str, profiles: Path | None) -> str:
    """Why no agent runs on this board; empty if one does, or if nobody knows the board."""
    try:
        require_agent(load(name, profiles))
    except NoAgent as refusal:
        return str(refusal)
    except UnknownProfile:  # it may have a budget of its own
        return ""
    return ""


def _stations(options: argparse.Namespace, *, labels: bool) -> list[Station]:
    """What to plan for, each with its speed."""
    if not (options.device or options.budget or options.fleet):
        return []
    boards = fleet(options, labels=labels).everyone
    settings = Settings("serve", "auto", QUANTS, options.profiles)
    return [replace(station(b.name, settings, profile=b.profile, budget_bytes=b.budget_bytes), board=b) for b in boards]


def _of_bundle(options: argparse.Namespace) -> list[Fit]:
    bundle = open_bundle(Path(options.model), trust=None)
    return [of_bundle(bundle, each) for each in _stations(options, labels=False)]


def _of_model(options: argparse.Namespace) -> list[Fit]:
    labels = read_labels(options.labels, options.data) if options.labels or options.data else ()
    stations = _stations(options, labels=bool(labels))
    for check in (sizes, states, keeping, grid):
        check(options)
    # everything above is checked before torch is loaded
    from export.prepare import prepare
    from export.stoppable import stoppable
    from export.wanted import wanted

    asked = wanted(options, labels)
    formats = tuple(dict.fromkeys(each.board.quant for each in stations))
    known = known_boards(options.profiles)
    if not stations:
        return []
    with (
        stoppable(),
        tempfile.TemporaryDirectory(prefix="edgequilt-fits-") as work,
        progress("planning", len(stations), quiet=options.json) as bar,
    ):
        bar.say("capturing the model")
        prepared = prepare(asked, formats, tuple(each.board.mode for each in stations), Path(work))
        rows = []
        for each in stations:
            bar.say(f"planning for {each.board.name}")
            rows.append(of_model(prepared, each, known))
            bar.advance()
        return rows


def _words(found: list[Fit]) -> str:
    rows = [
        (
            fit.board,
            "yes" if fit.fits else "no",
            mib(fit.budget_bytes or None),
            mib(fit.needed_bytes),
            _number(fit.segments),
            _number(fit.micro_batch),
            _number(fit.rank),
            "-" if fit.least_s is None else f"{1000 * fit.least_s:.1f} ms",
        )
        for fit in found
    ]
    why = [f"{fit.board}: {'; '.join(fit.why)}" for fit in found if fit.why and not fit.fits]
    return "\n".join([table(HEADER, rows), *(["", *why] if why else [])])


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
