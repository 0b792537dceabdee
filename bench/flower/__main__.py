"""`python -m bench.flower [--only CELL...] [--quick]`: rounds through this hub and through Flower, side by side.

Needs Flower's environment: `sh bench/flower/environment.sh`. Both sides have TLS, clients that are known one by one, a
database on disk with `synchronous=FULL`, the same numbers of the same shapes, and the same mathematics (the method
`mean` of hub/aggregation). Servers on core 0, clients on core 1. What is in the file already is kept, so that a run
that was cut short goes on; `--markdown FILE` prints tables of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.flower import ours, theirs
from bench.flower.tables import tables
from bench.load.hub import LARGE, MIDDLE, Shape
from bench.load.processes import CLIENT_CORE, machine, pin
from bench.load.results import keep, put_between, read, versions

HUB = "hub"
NODES = (4, 16, 64, 256)
CELL_LIMIT_S = 150.0  # of the rounds of one


@dataclass(frozen=True)
class Cell:
    """Which side, how many nodes, what size, whether bytes are counted (which costs time)."""

    side: str
    nodes: int
    shape: Shape
    rounds: int
    count: bool = False


def cells() -> dict[str, Cell]:
    """All of them, the ones that say most first: a round of many nodes takes minutes in most of Flower's arms."""
    found = {f"{HUB}, {nodes}": Cell(HUB, nodes, MIDDLE, 6) for nodes in NODES}
    found |= {f"{arm}, 4": Cell(arm, 4, MIDDLE, 4) for arm in theirs.TIMED}
    found |= {f"{arm}, 16": Cell(arm, 16, MIDDLE, 2) for arm in theirs.SYNCED}
    for side in (HUB, "default", theirs.BEST):
        found[f"bytes, {side}"] = Cell(side, 4, MIDDLE, 3, count=True)
    found[f"{theirs.BEST}, 64"] = Cell(theirs.BEST, 64, MIDDLE, 2)
    found |= {f"2.4 MB, {side}": Cell(side, 4, LARGE, 3) for side in (HUB, theirs.BEST, "default")}
    found["real SuperNodes, 4"] = Cell("real SuperNodes", 4, MIDDLE, 3)
    rest = [(arm, nodes) for nodes in NODES for arm in theirs.TIMED]
    return found | {n: Cell(arm, nodes, MIDDLE, 2) for arm, nodes in rest if (n := f"{arm}, {nodes}") not in found}


def measured(cell: Cell, folder: Path, limit_s: float) -> dict[str, Any]:
    """One cell."""
    if cell.side == HUB:
        found = ours.cell(folder, cell.shape, cell.nodes, cell.rounds, limit_s, count=cell.count)
    else:
        arm = theirs.ARMS[cell.side]
        found = theirs.cell(folder, arm, cell.shape, cell.nodes, cell.rounds, limit_s, count=cell.count)
    return {**named(cell), **found}


def named(cell: Cell) -> dict[str, Any]:
    """What a cell is of."""
    payload = 4 * 2 * cell.shape.slots * cell.shape.side * cell.shape.rank
    return {"side": cell.side, "nodes": cell.nodes, "payload_bytes": payload, "counted": cell.count}


def unfinished(cell: Cell, limit_s: float) -> dict[str, Any]:
    """What is known of a cell of which not one round ended."""
    return {**named(cell), "rounds": [], "more_than_s": limit_s}


def main() -> int:
    """Measure cell by cell, write each down, print."""
    known = cells()
    p = argparse.ArgumentParser(description="Rounds through this hub and through Flower.")
    p.add_argument("--only", nargs="*", choices=sorted(known), metavar="CELL", help="; ".join(known))
    p.add_argument("--quick", action="store_true", help="four nodes, two rounds: does it run?")
    p.add_argument("--limit-s", type=float, default=720.0, help="begin no cell after so many seconds")
    p.add_argument("--cell-limit-s", type=float, default=CELL_LIMIT_S, help="end a cell's rounds after so many seconds")
    p.add_argument("--again", action="store_true", help="measure also what the file has")
    p.add_argument("--out", type=Path, default=Path("build/bench/flower.json"))
    p.add_argument("--markdown", type=Path, metavar="FILE", help="only print tables of a file, as Markdown")
    p.add_argument("--into", type=Path, metavar="docs/load.md", help="with --markdown: put them where they belong")
    options = p.parse_args()
    if options.markdown:
        text = tables(read(options.markdown), markdown=True)
        if options.into:
            put_between(options.into, "flower", text)
        else:
            print(text)
        return 0
    pin(CLIENT_CORE)
    ends = time.monotonic() + options.limit_s
    chosen = options.only or [name for name, cell in known.items() if not options.quick or cell.nodes == NODES[0]]
    for name in chosen:
        if (name in read(options.out).get("cells", {}) and not options.again) or time.monotonic() > ends:
            continue
        cell = (
            Cell(known[name].side, known[name].nodes, known[name].shape, 2, known[name].count)
            if options.quick
            else known[name]
        )
        about = {"machine": machine(), "versions": {**versions(), **theirs.versions()}}
        began, limit_s = time.monotonic(), options.cell_limit_s
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = measured(cell, Path(folder), limit_s)
            except TimeoutError:
                found = unfinished(cell, limit_s)
            except RuntimeError as error:
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                continue
        keep(options.out, name, {**found, **about})
        print(json.dumps({"cell": name, "s": round(time.monotonic() - began, 1)}), file=sys.stderr, flush=True)
    print(tables(read(options.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
