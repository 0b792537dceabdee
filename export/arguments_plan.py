"""The options that say which model is planned for which boards, and how; what is read from them."""

from __future__ import annotations

import argparse
from pathlib import Path

from console.errors import UsageError
from devices.across import OBJECTIVES
from devices.memory import MODES
from devices.trunk import TRUNKS
from export.activations.methods import METHODS
from export.formats.grid import SCALES, Grid
from export.formats.registry import FORMATS, QUANTS, TRAIN_ACTIVATIONS

MOST = 1 << 20  # of tokens, or items of a micro-batch


def planning_options(p: argparse.ArgumentParser) -> None:
    """Add what says which model is planned for which boards, and how."""
    p.set_defaults(split=[], tail=None, plan=None)  # of those that plan for whole models
    p.add_argument("model", help="a Hugging Face id, a folder that save_pretrained wrote, FILE.onnx or FILE.py:factory")
    for add in (_boards, _classes, _formats, _training, _shapes, _adapters):
        add(p)


def _boards(p: argparse.ArgumentParser) -> None:
    """Options of which boards it is planned for."""
    p.add_argument("--device", action="append", default=[], metavar="NAME", help="a board; repeat for more")
    p.add_argument("--across", metavar="A,B,C", help="one model cut over these boards, which run it in this order")
    p.add_argument("--fleet", type=Path, metavar="FILE.toml", help="devices and chains from a file (docs/fleet.md)")
    p.add_argument("--objective", choices=OBJECTIVES, help="of --across: what is least (default: fewest segments)")
    p.add_argument(
        "--budget", action="append", default=[], metavar="[NAME=]SIZE", help="memory of the worker, such as 200MiB"
    )
    p.add_argument("--profiles", type=Path, metavar="FOLDER", help="a folder with profiles of your own")
    p.add_argument("--rank", action="append", default=[], metavar="[NAME=]N", help="adapter rank (default: by memory)")


def _classes(p: argparse.ArgumentParser) -> None:
    """Options of what it learns."""
    p.add_argument("--task", help="as optimum names tasks; for Hugging Face models only")
    p.add_argument("--labels", type=Path, metavar="FILE", help="the classes of a new head, one per line")
    p.add_argument("--features", default="", metavar="OUTPUT", help="what the head goes on (default: the one there is)")
    p.add_argument("--features-axis", type=int, metavar="N", help="of the features, where it is not the usual one")
    p.add_argument("--data", type=Path, metavar="FILE.jsonl", help="rows whose labels are the classes")
    p.add_argument("--mode", choices=MODES, help="(default: train where there are classes, else serve)")


def _formats(p: argparse.ArgumentParser) -> None:
    """Options of the formats of its weights, and what chooses them."""
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


def _training(p: argparse.ArgumentParser) -> None:
    """Options of how it trains."""
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


def _shapes(p: argparse.ArgumentParser) -> None:
    """Options of the sizes of what goes in and out."""
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


def _adapters(p: argparse.ArgumentParser) -> None:
    """Options of the adapters, and the graphs around them."""
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
