"""The command line of `edgequilt export`, as a request."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from console.arguments import Arguments
from console.errors import UsageError
from devices.across import OBJECTIVES
from devices.fleet import BoardChain, Fleet, Settings, require_speeds, station
from devices.fleet_file import read_fleet
from devices.memory import MODES
from devices.plan import Board
from devices.profile import UnknownProfile
from devices.profile import names as profile_names
from devices.stages import Objective, Station
from devices.trunk import TRUNKS
from export.activations.methods import METHODS
from export.arguments_split import asked_split, split_options
from export.formats.grid import SCALES, Grid
from export.formats.registry import ACTIVATIONS, AUTO, FORMATS, QUANTS, TRAIN_ACTIVATIONS
from export.given import Given, given_by, overruled
from wire.record import NAME

MOST = 1 << 20  # of tokens, or items of a micro-batch
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


def planning_options(p: argparse.ArgumentParser) -> None:
    """Add what says which model is planned for which boards, and how."""
    p.set_defaults(split=[], tail=None, plan=None)  # of those that plan for whole models
    p.add_argument("model", help="a Hugging Face id, a folder that save_pretrained wrote, FILE.onnx or FILE.py:factory")
    p.add_argument("--device", action="append", default=[], metavar="NAME", help="a board; repeat for more")
    p.add_argument("--across", metavar="A,B,C", help="one model cut over these boards, which run it in this order")
    p.add_argument("--fleet", type=Path, metavar="FILE.toml", help="devices and chains from a file (docs/fleet.md)")
    p.add_argument("--objective", choices=OBJECTIVES, help="of --across: what is least (default: fewest segments)")
    p.add_argument(
        "--budget", action="append", default=[], metavar="[NAME=]SIZE", help="memory of the worker, such as 200MiB"
    )
    p.add_argument("--profiles", type=Path, metavar="FOLDER", help="a folder with profiles of your own")
    p.add_argument("--rank", action="append", default=[], metavar="[NAME=]N", help="adapter rank (default: by memory)")
    p.add_argument("--task", help="as optimum names tasks; for Hugging Face models only")
    p.add_argument("--labels", type=Path, metavar="FILE", help="the classes of a new head, one per line")
    p.add_argument("--features", default="", metavar="OUTPUT", help="what the head goes on (default: the one there is)")
    p.add_argument("--features-axis", type=int, metavar="N", help="of the features, where it is not the usual one")
    p.add_argument("--data", type=Path, metavar="FILE.jsonl", help="rows whose labels are the classes")
    p.add_argument("--mode", choices=MODES, help="(default: train where there are classes, else serve)")
    p.add_argument(
        "--quant",
        choices=QUANTS,
        default="auto",
        help="format of the weights (default: auto, what errs least within the board's memory and the bytes of int8)",
    )
    p.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="PATTERN=FORMAT",
        help="format of the weights whose name matches, * and ? as in a shell; repeat for more",
    )
    p.add_argument("--block", type=int, metavar="N", help="weights that share a scale in int4, int8-blocks, nf4, fp4")
    p.add_argument("--scales", choices=SCALES, default="rounding", help="how int4 and int8-blocks choose their scales")
    p.add_argument("--zero-points", action="store_true", help="int4 and int8-blocks with zero points")
    p.add_argument(
        "--calibration", type=Path, metavar="FILE", help="items that quantization looks at (docs/quantization.md)"
    )
    p.add_argument("--calibration-method", choices=tuple(METHODS), help="of int8-static (default: minmax)")
    p.add_argument("--nested-scales", action="store_true", help="scales of nf4 and fp4 as 8-bit codes")
    p.add_argument(
        "--tables", choices=("in", "out"), default="in", help="large embedding tables in the graph, or read from a file"
    )
    p.add_argument(
        "--train-activations",
        choices=TRAIN_ACTIVATIONS,
        default=TRAIN_ACTIVATIONS[0],
        help="of the forward half of backpropagation over int8 weights: int8 is faster, its gradients are a little off",
    )
    p.add_argument(
        "--trunk",
        choices=TRUNKS,
        default="within",
        help="a cut below the lowest adapter, so that training keeps what is below per sample (docs/plan.md)",
    )
    p.add_argument(
        "--sequence",
        type=counts,
        default=(64,),
        metavar="TOKENS",
        help="of a text (default: 64); of several, as in 128,32, the longest is planned for",
    )
    p.add_argument(
        "--micro-batches",
        type=counts,
        default=(),
        metavar="8,2,1",
        help="the largest that fits is planned for, graphs of smaller ones lie beside (default: one of 8, 4, 2, 1)",
    )
    p.add_argument(
        "--size", action="append", default=[], metavar="NAME=N", help="of a symbolic dimension; repeat for more"
    )
    p.add_argument(
        "--state",
        action="append",
        default=[],
        metavar="IN=OUT",
        help="of an ONNX file: what OUT is goes into IN at the next run; repeat for more",
    )
    p.add_argument("--context", type=int, metavar="TOKENS", help="of prompt and answer together (default: 128)")
    p.add_argument(
        "--adapter-targets",
        default="auto",
        metavar="auto|every-block|all-linear|REGEX",
        help="which layers get an adapter",
    )
    p.add_argument("--adapter-kinds", default="lora", metavar="lora,bias", help="what they get (default: lora)")
    p.add_argument(
        "--serve-graph",
        action=argparse.BooleanOptionalAction,
        help="also a graph without slots, used while no adapter is deployed (default: unless --mode serve)",
    )
    p.add_argument(
        "--scale-inputs", action="store_true", help="also a graph whose quantization scales can be moved, to train them"
    )


def counts(text: str) -> tuple[int, ...]:
    """Numbers from a list, the largest first.

    >>> counts("1,8,2,8")
    (8, 2, 1)

    Raises:
        UsageError: something else is in it.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= MOST for part in parts):
        raise UsageError(f"expected whole numbers of 1 to {MOST}, as in 8,2,1, found {text!r}")
    return tuple(sorted({int(part) for part in parts}, reverse=True))


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


def sizes(options: argparse.Namespace) -> dict[str, int]:
    """The sizes of symbolic dimensions, by name.

    Raises:
        UsageError: not NAME=N, or a name twice.
    """
    found: dict[str, int] = {}
    for text in options.size:
        name, _, value = text.partition("=")
        if not name or not value.isdigit() or int(value) < 1:
            raise UsageError(f"expected --size NAME=N with a size of at least 1, found {text!r}")
        if found.setdefault(name, int(value)) != int(value):
            raise UsageError(f"expected one --size for {name}, found {found[name]} and {value}")
    return found if options.context is None else {**found, "context": options.context}


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


def keeping(options: argparse.Namespace) -> dict[str, str]:
    """Formats by patterns of the names of weights.

    Raises:
        UsageError: not PATTERN=FORMAT, or no such format.
    """
    found = {}
    for text in options.keep:
        pattern, equals, name = text.rpartition("=")
        if not pattern or not equals or name not in FORMATS:
            raise UsageError(f"expected --keep PATTERN=FORMAT with one of {', '.join(FORMATS)}, found {text!r}")
        found[pattern] = name
    return found


def grid(options: argparse.Namespace) -> Grid:
    """Settings of formats.

    Raises:
        UsageError: a block that no format has.
    """
    return Grid(options.block, options.scales, options.zero_points, options.nested_scales)


def states(options: argparse.Namespace) -> dict[str, str]:
    """Outputs by the input that they are fed to at the next run.

    Raises:
        UsageError: not IN=OUT, or an input twice.
    """
    found: dict[str, str] = {}
    for text in options.state:
        entering, equals, leaving = text.partition("=")
        if not entering or not leaving or not equals:
            raise UsageError(f"expected --state IN=OUT with an input and an output, found {text!r}")
        if entering in found:
            raise UsageError(f"expected one --state for {entering}, found {found[entering]} and {leaving}")
        found[entering] = leaving
    return found
