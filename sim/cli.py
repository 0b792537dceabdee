"""`edgequilt demo`: the whole product at work on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from console.arguments import Arguments
from console.errors import InvariantError, StorageError, UsageError
from sim.report import honest_words, write_result
from sim.result import Result, as_text
from sim.run import run
from sim.task import Task, cameras_task, text_task

MARK = ".edgequilt-demo"


def main(argv: list[str]) -> int:
    """`edgequilt demo [--scenario text|cameras] [--model FOLDER] [--data FILE] [--out DIR] [--rounds N] [--seed N]`."""
    options = _options(argv)
    # Small matrices on few cores: threads of BLAS would fight with those of the other processes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    out = _fresh(options.out)
    task = _task(options, out)
    if options.rounds is not None:
        task = replace(task, recipe=replace(task.recipe, rounds=options.rounds))
    result = run(task, out, options.seed, options.json)
    notes = [*task.notes, *honest_words(result)]
    write_result(out, result, task.pictures, notes)
    _say(result, notes, out, options.json)
    if result.failed:
        failed = "; ".join(f"{c.words} ({c.figures})" for c in result.failed)
        raise InvariantError(f"expected everything in {out / 'report.html'} to hold, but it did not: {failed}")
    return 0


def _options(argv: list[str]) -> argparse.Namespace:
    parser = Arguments(prog="edgequilt demo", description="Show the whole product at work on this machine.")
    parser.add_argument("--scenario", choices=("text", "cameras"), default="text")
    parser.add_argument("--model", type=Path, help="folder of a local encoder instead of all-MiniLM-L6-v2")
    parser.add_argument("--data", type=Path, help="JSON Lines with text, label and, if you like, device")
    parser.add_argument("--out", type=Path, default=Path("edgequilt-demo"), help="folder for everything")
    parser.add_argument("--rounds", type=int, help="rounds of training (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    options = parser.parse_args(argv)
    if options.scenario == "cameras" and (options.model or options.data):
        raise UsageError("expected no --model and no --data with --scenario cameras, which makes its own")
    if options.rounds is not None and options.rounds < 1:
        raise UsageError(f"expected at least one round, found --rounds {options.rounds}")
    if options.seed < 0:
        raise UsageError(f"expected a seed of 0 or more, found --seed {options.seed}")
    return options


def _fresh(out: Path) -> Path:
    """An empty folder; what an earlier demo left there is removed, anything else is not touched.

    Raises:
        UsageError: the folder holds something else.
        StorageError: it cannot be made.
    """
    try:
        if out.exists():
            if not out.is_dir() or (any(out.iterdir()) and not (out / MARK).exists()):
                raise UsageError(
                    f"expected a new or empty folder, or one of an earlier demo, at {out}; choose another --out"
                )
            shutil.rmtree(out)
        out.mkdir(parents=True)
        (out / MARK).touch()
    except OSError as error:
        raise StorageError(
            f"expected to make the folder {out}, could not ({error.strerror}); choose another --out"
        ) from error
    return out


def _task(options: argparse.Namespace, out: Path) -> Task:
    if options.scenario == "cameras":
        return cameras_task(out, options.seed, options.json)
    return text_task(out, options.model, options.data, options.seed, options.json)


def _say(result: Result, notes: list[str], out: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps(dataclasses.asdict(result)))
        return
    print(as_text(result))
    print("\n" + "\n".join(notes))
    print(f"\n{sum(result.seconds.values()):.0f} s in all; the report: {out / 'report.html'}")
