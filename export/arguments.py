"""The command line of `edgequilt export`, as a request."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from console.arguments import Arguments
from console.errors import UsageError
from devices.memory import MODES
from devices.plan import Board
from devices.profile import load, require_agent
from export.quantize import FORMATS
from export.sources.huggingface import TASKS

UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", re.IGNORECASE)


def parser() -> argparse.ArgumentParser:
    """All options, with their help."""
    p = Arguments(prog="edgequilt export", description="Turn a model into one signed bundle per board.")
    p.add_argument("model", help="a Hugging Face id, or a folder that save_pretrained wrote")
    p.add_argument("--device", action="append", required=True, metavar="NAME", help="a board; repeat for more")
    p.add_argument(
        "--budget", action="append", default=[], metavar="[NAME=]SIZE", help="memory of the worker, such as 200MiB"
    )
    p.add_argument("--rank", action="append", default=[], metavar="[NAME=]N", help="adapter rank (default: by memory)")
    p.add_argument("--task", required=True, choices=[task for task in TASKS if task.endswith("classification")])
    p.add_argument("--labels", type=Path, metavar="FILE", help="the classes, one per line")
    p.add_argument("--data", type=Path, metavar="FILE.jsonl", help="rows whose labels are the classes")
    p.add_argument("--mode", choices=MODES, default="train")
    p.add_argument("--quant", choices=FORMATS, default="int8", help="format of the weights")
    p.add_argument("--sequence", type=int, default=64, metavar="TOKENS", help="of a text (default: 64)")
    p.add_argument(
        "--adapter-targets", default="auto", metavar="auto|all-linear|REGEX", help="which layers get an adapter"
    )
    p.add_argument("--name", default="", help="of the model (default: of its folder)")
    p.add_argument("--key", type=Path, metavar="publisher.key", help="that signs (default: OUT/keys/publisher.key)")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets a folder per board")
    p.add_argument("--json", action="store_true", help="print JSON, and no progress")
    return p


def boards(options: argparse.Namespace) -> tuple[Board, ...]:
    """What to plan for, from the boards' profiles and the command line.

    Raises:
        UsageError: a name that is not a board or not chosen, or a size or rank that is none.
        NoAgent: a board that cannot run an agent.
    """
    names = list(dict.fromkeys(options.device))
    budgets = _by_name(options.budget, names, "--budget")
    ranks = _by_name(options.rank, names, "--rank")
    made = []
    for name in names:
        profile = load(name)
        require_agent(profile)
        budget = size_bytes(budgets[name]) if name in budgets else profile.budget_bytes
        rank = _rank(ranks[name]) if name in ranks else None
        made.append(Board(name, budget, options.mode, options.quant, rank))
    return tuple(made)


def size_bytes(text: str) -> int:
    """A size in bytes.

    >>> size_bytes("200MiB"), size_bytes("1.5 GB"), size_bytes("4096")
    (209715200, 1500000000, 4096)

    Raises:
        UsageError: it is not one.
    """
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"expected a size such as 200MiB, 1.5GB or 209715200, found {text!r}")
    return int(float(match[1]) * UNITS[(match[2] or "").lower()])


def _by_name(given: list[str], names: list[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` for one board, `VALUE` for all that are not named."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.rpartition("=")
        if equals and name not in names:
            raise UsageError(f"expected {option} NAME=VALUE for one of {', '.join(names)}, found {text!r}")
        found |= {name: value} if equals else {n: value for n in names if n not in found}
    return found


def _rank(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 1024:
        raise UsageError(f"expected a --rank of 1 to 1024, found {text!r}")
    return int(text)
