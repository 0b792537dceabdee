"""`edgequilt data check`: what a training run would see of a data file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from console.arguments import Arguments
from console.errors import BadData, UsageError
from console.table import many, shown, table
from edge.data.row import KEPT_BACK
from edge.data.survey import Survey, survey

ROWS = 40  # classes in the table; the others are summed up


def parser() -> argparse.ArgumentParser:
    """All options, with their help."""
    p = Arguments(prog="edgequilt data", description="A board's own data.")
    verbs = p.add_subparsers(dest="verb", required=True, metavar="check FILE")
    check = verbs.add_parser("check", help="say what a training run would see")
    check.add_argument("file", type=Path, metavar="FILE", help="JSONL, CSV, NPZ, text, or a folder per class")
    check.add_argument("--bundle", type=Path, required=True, metavar="BUNDLE", help="what is to be trained")
    check.add_argument("--trust", type=Path, metavar="publisher.pub", help="the publisher to believe")
    kept_back = f"of rows kept back (default: {KEPT_BACK:g})"
    check.add_argument("--holdout", "--kept-back", type=float, default=KEPT_BACK, metavar="SHARE", help=kept_back)
    check.add_argument("--batch", type=int, default=16, metavar="N", help="rows in one step (default: 16)")
    check.add_argument("--json", action="store_true", help="print JSON")
    return p


def main(argv: list[str]) -> int:
    """The verb `data`; returns the exit code.

    Raises:
        EdgequiltError: what is wrong with the command line, the bundle or the data.
    """
    options = parser().parse_args(argv)
    if not 0 <= options.holdout <= 1 or options.batch < 1:
        given = f"--holdout {options.holdout:g} --batch {options.batch}"
        raise UsageError(f"expected --holdout from 0 to 1 and --batch of at least 1, found {given}")
    found = _surveyed(options)
    if options.json:
        print(json.dumps(found.plain(options.batch), ensure_ascii=False))
    elif found.rows:
        print(_page(found, options))
    found.problems.refuse()
    if not found.rows:
        raise BadData(f"expected rows in {options.file}, found none; docs/data.md says what each format looks like")
    return 0


def _surveyed(options: argparse.Namespace) -> Survey:
    from wire.bundle import open_bundle

    trust = None
    if options.trust is not None:
        from wire.envelope import Trust
        from wire.keys import read_public_key

        trust = Trust([read_public_key(options.trust, "publisher")])
    return survey(options.file, open_bundle(options.bundle, trust), options.holdout)


def _page(found: Survey, options: argparse.Namespace) -> str:
    takes = f"{found.kind} and knows {len(found.labels)} classes" if found.labels else f"{found.kind} without labels"
    parts = [f"{shown(options.file)}: {found.format}, {found.rows} rows, for a bundle that takes {takes}"]
    if found.labels:
        parts.append(_classes(found))
    facts = _facts(found, options.batch)
    width = max(len(name) for name, _ in facts)
    parts.append("\n".join(f"{name.ljust(width)}  {shown(fact)}" for name, fact in facts))
    if found.told():
        parts.append("\n".join(f"warning: {shown(told)}" for told in found.told()))
    return "\n\n".join(parts)


def _facts(found: Survey, batch: int) -> list[tuple[str, str]]:
    steps = found.steps(batch)
    runs = f"{steps['runs_per_step']} graph runs of {found.micro_batch} each" if found.micro_batch else "no graphs"
    return [
        ("to learn from, kept back", f"{found.train.total()}, {found.kept_back.total()}"),
        *found.trait.lines(),
        ("repeated", many(found.repeats.again, "row")),
        ("one pass", f"{steps['steps_per_pass']} steps of {steps['batch']} rows, {runs}"),
    ]


def _classes(found: Survey) -> str:
    """Rows per class, in the order of the bundle; of many classes the largest."""
    order = list(found.labels)
    if len(order) > ROWS:
        order = sorted(order, key=lambda n: -found.train[n])[:ROWS]
    rows: list[list[object]] = [[shown(n), found.train[n], found.kept_back[n]] for n in order]
    rest = set(found.labels) - set(order)
    if rest:
        train, kept = (sum(side[n] for n in rest) for side in (found.train, found.kept_back))
        rows.append([f"{len(rest)} others", train, kept])
    return table(["class", "train", "kept back"], rows)
