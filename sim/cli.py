"""`edgequilt demo`: the whole product at work on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from console.arguments import Arguments
from console.errors import InvariantError, StorageError, UsageError
from sim.report import honest_words, write_result
from sim.result import Result, as_text
from sim.run import run, timed
from sim.task import Task, cameras_task, text_input, text_task

MARK = ".edgequilt-demo"
MADE = ("adapter", "bundles", "data", "fleet", "keys", "logs", "model", "report.html", "result.json", MARK)


def main(argv: list[str]) -> int:
    """`edgequilt demo [--scenario text|cameras] [--model FOLDER] [--data FILE] [--out DIR] [--rounds N] [--seed N]`."""
    options = _options(argv)
    # Small matrices on few cores: threads of BLAS would fight with those of the other processes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with threadpool_limits(limits=1, user_api="blas"):  # numpy is loaded already, and no longer reads the variable
        return _demo(options)


def _demo(options: argparse.Namespace) -> int:
    seconds: dict[str, float] = {}
    with timed(seconds, "model and data"):
        task = _task(options)
    out = options.out
    with _leaving_nothing(out):
        result = run(task, out, options.seed, options.json)
    result = replace(result, seconds={**seconds, **result.seconds})
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
    if options.model is not None and not options.model.is_dir():
        raise UsageError(f"expected the folder of a local encoder, found none at --model {options.model}")
    _refuse_foreign(options.out, [path for path in (options.model, options.data) if path is not None])
    return options


def _refuse_foreign(out: Path, needed: list[Path]) -> None:
    """Before anything is done: may this folder be ours?

    Raises:
        UsageError: it holds something else than an earlier demo, or something that this one needs.
        StorageError: it cannot be looked into.
    """
    try:
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARK).exists())):
            raise UsageError(
                f"expected a new or empty folder, or one of an earlier demo, at {out}; choose another --out"
            )
    except OSError as error:
        raise _unusable(out, error) from error
    for path in needed:
        if out.resolve() in (path.resolve(), *path.resolve().parents):
            raise UsageError(f"expected {path} outside of {out}, whose files are replaced; choose another --out")


def _fresh(out: Path) -> Path:
    """A folder without what an earlier demo made there; other files are not touched.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        _clear(out)
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).touch()
    except OSError as error:
        raise _unusable(out, error) from error
    return out


def _clear(out: Path) -> None:
    for name in MADE:
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _leaving_nothing(out: Path) -> Iterator[None]:
    """Take everything back if the run ends before there are logs to look at."""
    try:
        yield
    except BaseException:
        if not (out / "logs").exists():
            with suppress(OSError):
                _clear(out)
                out.rmdir()
        raise


def _unusable(out: Path, error: OSError) -> StorageError:
    return StorageError(
        f"expected to make the folder {out}, could not ({error.strerror or error}); choose another --out"
    )


def _task(options: argparse.Namespace) -> Task:
    if options.scenario == "cameras":
        with _leaving_nothing(options.out):
            task = cameras_task(_fresh(options.out), options.seed, options.json)
    else:
        given = text_input(options.model, options.data, options.seed, options.json)
        with _leaving_nothing(options.out):
            task = text_task(_fresh(options.out), given)
    if options.rounds is not None:
        task = replace(task, recipe=replace(task.recipe, rounds=options.rounds))
    return task


def _say(result: Result, notes: list[str], out: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps(dataclasses.asdict(result)))
        return
    print(as_text(result))
    print("\n" + "\n".join(notes))
    print(f"\n{sum(result.seconds.values()):.0f} s in all; the report: {out / 'report.html'}")
