"""`edgequilt hub importance`: how much slots matter, as boards told, and as a file for the planner."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from console.table import many, percent, shown, table
from hub.verbs.common import Row, add_verb, ask, say
from wire.files import write_atomic
from wire.importance.file import Importance, to_bytes
from wire.importance.moved import shares
from wire.record import read_record

HEADER = ("slot", "HSplitLoRA", "FedPipe", "rounds")


def parse(verbs: Any) -> None:
    """Its options."""
    verb = add_verb(verbs, "importance", _importance, "how much each slot matters, as boards tell in train rounds")
    verb.add_argument("--version", default="tip", help="as it was known then: a number, tip or released (default: tip)")
    verb.add_argument(
        "--out", type=Path, metavar="FILE", help="write it for `edgequilt plan --importance`; plans then rest on it"
    )


def _importance(options: argparse.Namespace) -> int:
    request = {"request": "importance", "version": options.version}
    found = ask(options, request)
    if options.out is not None:
        write_atomic(options.out, to_bytes(_read(found)))
        ask(options, {**request, "take": True})
    return say(options, found, text_of(found, options.out))


def _read(found: Row) -> Importance:
    return read_record(Importance, found["importance"], "the hub's answer")


def text_of(found: Row, out: Path | None = None) -> str:
    """A line per slot, the most important first, in shares of all; and how far that is from what plans rest on."""
    one = _read(found)
    product, score = shares(one.scores("hsplitlora")), shares(one.scores("fedpipe"))
    rows = [
        (shown(name), percent(product[name]), percent(score[name]), one.slots[name].count)
        for name in sorted(one.slots, key=lambda name: (-product[name], name))
    ]
    told = f"version {found['version']}: {many(one.stage, 'round')}, {many(one.boards, 'board')} in the last"
    far = f"moved by {found['moved']:.2f} since version {found['planned_with']} (threshold {found['threshold']:g})"
    lines = [table(HEADER, rows), "", told, far, *([found["advice"]] if found["advice"] else [])]
    return "\n".join([*lines, *([f"written to {out}"] if out is not None else [])])
