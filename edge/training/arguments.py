"""The command line of `edgequilt train`, as a wish."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from console.arguments import Arguments
from console.errors import BadData, UsageError
from edge.data.row import KEPT_BACK
from edge.training.wish import FACTORS, OPTIMIZERS, SCHEDULES, TRAINERS, Wish
from wire.record import plain, read_record

CHECKPOINT_S = 20.0
CACHE = "256MiB"


def parser() -> argparse.ArgumentParser:
    """All options, with their help."""
    p = Arguments(prog="edgequilt train", description="Train an adapter on this machine, without a hub.")
    p.add_argument("bundle", type=Path, metavar="BUNDLE")
    p.add_argument("--data", type=Path, required=True, metavar="FILE", help="rows or a folder of them (docs/data.md)")
    p.add_argument("--out", type=Path, required=True, metavar="ADAPTER", help="the adapter file to write")
    p.add_argument("--trainer", choices=TRAINERS, default="auto", help="(default: auto, by memory, data and graphs)")
    p.add_argument("--kinds", default="lora,bias,head", metavar="lora,bias,head", help="what may learn (default: all)")
    p.add_argument("--factors", choices=FACTORS, default="both", help="which of A and B learn (default: both)")
    p.add_argument("--rank", type=int, metavar="N", help="of factors (default: what the data support)")
    p.add_argument("--scaling", choices=("lora", "rslora"), default="lora", help="alpha / r, or alpha / sqrt(r)")
    p.add_argument("--adapter", type=Path, metavar="FILE", help="an adapter to go on from")
    p.add_argument("--replay", type=Path, metavar="FOLDER", help="rows of earlier runs, mixed in before and kept after")
    p.add_argument("--replay-share", type=float, default=0.25, metavar="SHARE", help="of a run's rows (default: 0.25)")
    p.add_argument("--keep", type=Path, metavar="FILE", help="data whose answers --trainer edit must leave as they are")
    p.add_argument("--bound", type=float, default=0.01, metavar="SHARE", help="of --keep that an edit may change")
    p.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw")
    p.add_argument("--rate", type=float, metavar="X", help="learning rate (default: the trainer's)")
    p.add_argument("--schedule", choices=SCHEDULES, default="linear", help="of the rate (default: linear, to 0)")
    p.add_argument("--warmup", type=float, default=Wish.warmup, metavar="SHARE", help="of the steps (default: 0.06)")
    p.add_argument("--clip", type=float, default=1.0, metavar="NORM", help="of gradients; 0: any (default: 1)")
    p.add_argument("--epochs", type=float, default=3.0, metavar="N", help="passes over the rows (default: 3)")
    p.add_argument("--steps", type=int, metavar="N", help="instead of --epochs")
    p.add_argument("--batch", type=int, default=16, metavar="ROWS", help="of a step (default: 16)")
    p.add_argument("--micro-batch", type=int, metavar="ROWS", help="of a graph's run (default: what fits)")
    p.add_argument("--packed", action="store_true", help="of a decoder: texts one after the other in full rows")
    p.add_argument("--directions", type=int, default=8, metavar="N", help="of forward-only trainers (default: 8)")
    p.add_argument("--layers", default="*", metavar="PATTERN,...", help="weights whose scales qzo moves (default: all)")
    kept_back = f"rows to judge by (default: {KEPT_BACK:g})"
    p.add_argument("--kept-back", type=float, default=KEPT_BACK, metavar="SHARE", help=kept_back)
    p.add_argument("--patience", type=int, default=4, metavar="N", help="looks without gain before it stops; 0: never")
    p.add_argument("--seed", type=int, default=0, metavar="N")
    p.add_argument("--force", action="store_true", help="train also what the data do not support")
    p.add_argument("--restart", action="store_true", help="begin anew, whatever an interrupted run left")
    p.add_argument("--checkpoint-every", type=float, default=CHECKPOINT_S, metavar="SECONDS", help="(default: 20)")
    p.add_argument("--cache", default=CACHE, metavar="SIZE", help=f"of activations kept on disk (default: {CACHE})")
    p.add_argument("--no-cache", action="store_true", help="make them in every step")
    p.add_argument("--trust", type=Path, metavar="publisher.pub", help="the publisher to believe")
    p.add_argument("--threads", type=int, default=1, metavar="N")
    p.add_argument("--html", type=Path, metavar="FILE", help="a page with the curves")
    p.add_argument("--json", action="store_true", help="print JSON, and no progress")
    return p


def wish_of(options: argparse.Namespace) -> Wish:
    """What the command line asks for.

    Raises:
        UsageError: naming every option that is out of bounds.
    """
    names = {name for name in vars(options) if name in plain(Wish())}
    given: dict[str, Any] = {name: getattr(options, name) for name in names}
    given["kinds"] = [kind.strip() for kind in options.kinds.split(",")]
    given["layers"] = [pattern.strip() for pattern in options.layers.split(",")]
    try:
        return read_record(Wish, given, "the command line")
    except BadData as problem:
        raise UsageError(str(problem)) from problem
