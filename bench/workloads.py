"""What is carried: `python -m bench.workloads [NAME ...] [--check]`; writes docs/workloads.md.

Every workload of the test suite is exported in float32 as a user would: for a board that holds it whole, for one that
does not, and for a chain of both; the nets of the onnx package for a chain of a Zero and a Pi 4. Names choose some,
whose rows are printed only. `--check` exports, and ends with 1 where the page says something else; what was measured
and what follows from measurements is not compared.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import onnxruntime

from console.errors import DoesNotFit
from devices.fleet import known_boards
from devices.memory import MIB
from devices.plan import Board, needs
from devices.profile import load
from export.pipeline import ExportedBundle
from export.prepare import Prepared, Wanted, prepare
from tests.workloads.exported import Exported, export_across, export_unequal
from tests.workloads.registry import CARRIED, LIGHT, REFUSED, Workload
from wire.files import write_atomic

PAGE = Path(__file__).resolve().parent.parent / "docs" / "workloads.md"
BOARDS = ZERO, FOUR = "raspberry-pi-zero-2w", "raspberry-pi-4-2gb"
SOURCES = {"folder": "Hugging Face folder", "module": "torch module", "onnx": "ONNX file"}
TOO_LARGE = "light-vgg19"  # of a layer that a Zero cannot hold


@dataclass(frozen=True)
class Row:
    """A line of a table: what is the same on every machine, and what was measured or follows from it."""

    fixed: tuple[str, ...]
    found: tuple[str, ...]

    def __str__(self) -> str:
        return line((*self.fixed, *self.found))


ALONE = ["workload", "source", "parameters", "MiB", "segments: large", "small", "chain", "KiB between boards"]
ALONE += ["large board", "small board", "chain", "distance"]
ACROSS_TWO = ["net", "source", "parameters", "MiB", "segments: Zero", "Pi 4", "KiB between boards"]
ACROSS_TWO += ["Zero", "Pi 4", "distance"]


def main() -> int:
    """Export, and write the page, print rows, or compare."""
    parser = argparse.ArgumentParser(description="What is carried.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="workloads whose rows are printed (default: the page)")
    parser.add_argument("--check", action="store_true", help="compare with docs/workloads.md instead of writing it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tables = [list(rows) for rows in _tables(Path(name), options.names)]
    if options.check:
        stale = [row for rows in tables for row in rows if not is_told(row, PAGE.read_text(encoding="utf-8"))]
        print("\n".join(f"not in {PAGE.name}: {row}" for row in stale) or f"{PAGE.name} says the same")
        return 1 if stale else 0
    if options.names:
        print("\n".join(str(row) for rows in tables for row in rows))
        return 0
    write_atomic(PAGE, page(tables).encode())
    return 0


def _tables(folder: Path, names: Sequence[str]) -> list[Iterator[Row]]:
    chosen = [[w for w in group if not names or w.name in names] for group in (CARRIED, LIGHT, REFUSED)]
    return [
        (alone_row(_exported(workload, folder)) for workload in chosen[0]),
        (across_row(_exported(workload, folder)) for workload in chosen[1]),
        (refusal_row(workload, folder) for workload in (*chosen[2], *(w for w in chosen[1] if w.name == TOO_LARGE))),
    ]


def _exported(workload: Workload, folder: Path) -> Exported:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        if workload in LIGHT:
            made = export_across(workload, folder, Path(name), BOARDS)
        else:
            made = export_unequal(workload, folder, Path(name))
    slack = [(b.manifest.plan.budget_bytes - b.measured_bytes) / MIB for b in made.made]
    print(f"{workload.name}: {', '.join(f'{room:.1f}' for room in slack)} MiB of the budgets are free", file=sys.stderr)
    return made


def alone_row(exported: Exported) -> Row:
    """A workload on two unequal boards, each alone and both as a chain."""
    large, small, *chain = exported.made
    segments = [len(bundle.manifest.segments) for bundle in exported.made]
    counts = (str(segments[0]), str(segments[1]), " + ".join(map(str, segments[2:])))
    fixed = (*_what(exported), *counts, traffic(chain))
    return Row(fixed, (memory([large]), memory([small]), memory(chain), distance(exported)))


def across_row(exported: Exported) -> Row:
    """A net on a chain of two real boards."""
    counts = [str(len(bundle.manifest.segments)) for bundle in exported.made]
    fixed = (*_what(exported), *counts, traffic(exported.made))
    return Row(fixed, (*(memory([bundle]) for bundle in exported.made), distance(exported)))


def refusal_row(workload: Workload, folder: Path) -> Row:
    """A workload that a board cannot have, and what is said of it."""
    wanted = Wanted(workload.source(folder), workload.task, targets="", sizes=workload.sizes)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        prepared = prepare(wanted, ("fp32",), ("serve",), Path(name))
        try:
            prepared.decide(_too_small(workload, prepared), known_boards())
        except DoesNotFit as refusal:
            return Row((workload.name,), (str(refusal),))
    raise AssertionError(f"{workload.name} was expected to be refused")


def _too_small(workload: Workload, prepared: Prepared) -> Board:
    """A Zero, or where everything fits that, a board that holds all but a byte of it."""
    if workload.name == TOO_LARGE:
        return Board(ZERO, load(ZERO).budget_bytes, "serve", "fp32")
    batch, board = prepared.batches[-1], Board("small", 0, "serve", "fp32", 1)
    whole = needs(prepared.cost(batch, "serve").units, board, (), batch)[0].total
    return Board("small", whole - 1, "serve", "fp32", 1)


def _what(exported: Exported) -> tuple[str, str, str, str]:
    graph = exported.prepared.captured.model.graph
    weights = [v.const_value for v in graph.initializers.values() if v.const_value is not None]
    count, size = (sum(getattr(w, what) for w in weights) for what in ("size", "nbytes"))
    return exported.workload.name, SOURCES[exported.workload.kind], f"{count / 1e6:.2f} M", f"{size / MIB:.1f}"


def traffic(chain: Sequence[ExportedBundle]) -> str:
    """KiB of one item that go from board to board."""
    place = chain[0].manifest.chain
    return "-" if place is None else f"{place.extra['traffic_bytes_per_item'] / 1024:.1f}"


def memory(bundles: Sequence[ExportedBundle]) -> str:
    """Predicted and measured peak of the worker of each board, in MiB."""
    pairs = [(bundle.manifest.plan.predicted_bytes, bundle.measured_bytes) for bundle in bundles]
    return ", ".join(f"{predicted / MIB:.0f} / {measured / MIB:.0f}" for predicted, measured in pairs)


def distance(exported: Exported) -> str:
    """The largest relative difference of any output to the untouched model, over all bundles."""
    return f"{max(bundle.manifest.extra['verified']['chain_error'] for bundle in exported.made):.0e}"


def is_told(row: Row, text: str) -> bool:
    """Whether the page has a row that begins with what is the same on every machine."""
    return line(row.fixed) in text


def line(cells: Sequence[str]) -> str:
    """A row of a table in Markdown.

    >>> line(["a", "b"])
    '| a | b |'
    """
    return f"| {' | '.join(cells)} |"


def page(tables: Sequence[Sequence[Row]]) -> str:
    """The whole page."""
    alone, across, refused = ("\n".join(map(str, rows)) for rows in tables)
    machine = f"onnxruntime {onnxruntime.__version__} on {platform.machine()}, {os.cpu_count()} cores"
    return TEXT.format(
        machine=machine,
        alone=f"{_head(ALONE)}\n{alone}",
        across=f"{_head(ACROSS_TWO)}\n{across}",
        refused=f"{_head(['workload', 'what is said'])}\n{refused}",
    )


def _head(names: Sequence[str]) -> str:
    return f"{line(names)}\n{line(['---'] * len(names))}"


TEXT = """\
# Workloads

Models of many kinds with random weights, built offline (`tests/workloads/`), and what becomes of each. This page is \
written by `python -m bench.workloads`; `--check` exports again and compares. Everything is in float32, to serve. \
Memory is the peak of a worker, runtime included, predicted / measured in MiB, with {machine}; the large board of a \
workload has room for it at its largest micro-batch, the small one needs a cut at any. `distance` is max |a - b| / \
max(1, max |b|) to the untouched model, the largest of all outputs and bundles; an export with more than 1e-5 fails. \
`KiB between boards` are those of one item, states that go back to an earlier board included.

The test suite holds every row of bundles to the whole model again, run as boards run it, under this runtime and \
under onnxruntime 1.23.2, the oldest that JetPack 6 has.

## Two unequal boards

{alone}

Decoders run token by token with their caches as states; `t5` is one graph that reads all tokens so far, and keeps no \
cache. `lstm` and `spiking` carry state from run to run. `audio` begins at the samples: log-mel is part of the graph.

## A Zero and a Pi 4

The nets that the onnx package carries for its own tests (opset 9, 2012 to 2017), weights drawn anew, cut for \
{zero} and {four} so that the slowest of boards and link is as fast as can be.

{across}

## What is not carried

A net inside one If or Loop is carried whole, as one segment; it is refused where it would have to be cut.

{refused}
""".replace("{zero}", f"`{ZERO}`").replace("{four}", f"`{FOUR}`")


if __name__ == "__main__":
    sys.exit(main())
