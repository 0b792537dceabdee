"""The command line of `edgequilt export`, as a request."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from console.arguments import Arguments
from console.errors import UsageError
from devices.fleet import BoardChain, Fleet, Settings, require_speeds, station
from devices.fleet_file import read_fleet
from devices.plan import Board
from devices.profile import UnknownProfile
from devices.profile import names as profile_names
from devices.stages import Objective, Station
from export.arguments_plan import planning_options
from export.arguments_split import asked_split, split_options
from export.formats.registry import ACTIVATIONS, AUTO, QUANTS
from export.given import Given, given_by, overruled
from wire.record import NAME

UNNAMED = "board"  # what is planned for when only a budget is given


def parser() -> argparse.ArgumentParser:
    """All options of `edgequilt export`, with their help."""
    p = Arguments(prog="edgequilt export", description="Turn a model into one signed bundle per board.")
    planning_options(p)
    split_options(p)
    p.add_argument("--plan", type=Path, metavar="PLAN.json", help="what edgequilt plan wrote, instead of boards")
    p.add_argument(
        "--strict", action="store_true", help="refuse weights that amplify noise over a fifth more than fp32 does"
    )
    p.add_argument("--sample", type=Path, metavar="FILE.npz", help="real input to verify with, an array per input")
    p.add_argument("--name", default="", help="of the model (default: of its folder)")
    p.add_argument("--key", type=Path, metavar="publisher.key", help="that signs (default: OUT/keys/publisher.key)")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets a folder per board")
    p.add_argument("--json", action="store_true", help="print JSON, and no progress")
    return p


def fleet(options: argparse.Namespace, *, labels: bool) -> Fleet:
    """What to plan for, from the boards' profiles, a fleet file and the command line.

    Args:
        options: of `parser`.
        labels: whether there are classes to train for, which decides the mode where none is named.

    Raises:
        UsageError: a name that is not a board or not chosen, a size or rank that is none, nothing to plan for.
        NoAgent: a board that cannot run an agent.
    """
    mode = options.mode or ("train" if labels else "serve")
    settings = Settings(mode, options.quant, QUANTS, options.profiles, options.trunk)
    devices, chained, parted = list(dict.fromkeys(options.device)), _across(options.across), asked_split(options)
    named = bool(devices or chained or parted.names)
    if not named and options.fleet is None and any("=" not in text for text in options.budget):
        devices = [UNNAMED]
    file = Fleet() if options.fleet is None else read_fleet(options.fleet, settings)
    names = [*devices, *chained, *parted.names]
    if not names and not file.everyone:
        raise UsageError(
            "expected what to export for as --device NAME, --across A,B, --split A, --fleet FILE.toml, --budget SIZE "
            "or --plan PLAN.json, found none"
        )
    given = given_by(options, [*names, *(board.name for board in file.everyone)])
    stations, file = _stations(names, given, settings), overruled(file, given)
    own = Fleet(tuple(stations[name].board for name in devices), _chain(chained, stations, options.objective))
    return Fleet(
        (*own.boards, *_others(file.boards, own.boards)),
        (*own.chains, *file.chains),
        (*parted.splits(stations), *file.splits),
    )


def _across(text: str | None) -> list[str]:
    names = [] if text is None else [name.strip() for name in text.split(",")]
    if text is not None and (len(names) < 2 or not all(names)):
        raise UsageError(f"expected --across A,B with two boards or more, found {text!r}; for one board take --device")
    return names


def _stations(names: list[str], given: Given, settings: Settings) -> dict[str, Station]:
    """Every board that is named, each once; one without a profile needs a budget of its own."""
    known = profile_names(settings.profiles)
    made = {}
    for name in dict.fromkeys(names):
        plain = name not in known and (name in given.own or name == UNNAMED)
        if plain and not re.fullmatch(NAME, name):
            raise UsageError(f"expected a board's name of lower-case letters, digits, '.', '_' and '-', found {name!r}")
        try:
            made[name] = station(
                name,
                settings,
                profile="" if plain else name,
                budget_bytes=given.budgets.get(name),
                rank=given.ranks.get(name),
            )
        except UnknownProfile as error:
            raise UnknownProfile(f"{error}; --budget {name}=SIZE takes any board without a profile") from error
    return made


def _chain(names: list[str], stations: dict[str, Station], objective: Objective | None) -> tuple[BoardChain, ...]:
    if not names:
        if objective is not None:
            raise UsageError("expected --objective beside --across; a chain of a fleet file names its own")
        return ()
    chain = BoardChain("", tuple(stations[name] for name in names), objective or "fewest")
    require_speeds(chain)
    return (chain,)


def _others(boards: tuple[Board, ...], own: tuple[Board, ...]) -> tuple[Board, ...]:
    twice = {board.name for board in boards} & {board.name for board in own}
    if twice:
        raise UsageError(f"expected each device once, found {', '.join(sorted(twice))} in --device and in --fleet")
    return boards


def check_calibration(options: argparse.Namespace, chosen: Fleet) -> None:
    """Whether there is something to calibrate with, and something to calibrate.

    Raises:
        UsageError: one without the other.
    """
    static = [board.name for board in chosen.everyone if board.quant == "int8-static"]
    if static and options.calibration is None:
        raise UsageError(
            f"expected --calibration FILE for int8-static on {', '.join(static)}, found none; give items like those "
            "that the model will see, or take int8-dynamic"
        )
    if options.calibration_method is not None and not static:
        raise UsageError("expected --calibration-method beside --quant int8-static, found another format; leave it out")
    read = options.scales == "gptq" or any(board.quant in {AUTO, *ACTIVATIONS} for board in chosen.everyone)
    if options.calibration is not None and not read:
        raise UsageError(
            f"expected --calibration beside --quant {', '.join((AUTO, *ACTIVATIONS))} or --scales gptq, found another "
            "format; leave one out"
        )
