"""Predicted beside measured: `python -m bench.latency [NAME ...] [--bundle DIR ...] [--seconds S] [--out FILE.json]`.

A latency table is measured first (docs/probe.md), then every graph of every bundle is run: workloads of the test suite
by name, exported here for a board that holds them whole, and bundles that are there. Prints a table, writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from console.table import table
from devices.times import UNKNOWN, Speed
from edge.probe.compared import Compared, compare, together
from edge.probe.latency import measure
from tests.workloads.exported import export_unequal
from tests.workloads.registry import CARRIED
from wire.bundle import open_bundle
from wire.files import write_atomic
from wire.record import plain


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description="Predicted beside measured time.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="workloads")
    parser.add_argument("--bundle", action="append", default=[], type=Path, metavar="DIR")
    parser.add_argument("--seconds", type=float, default=50.0, help="for the latency table")
    parser.add_argument("--out", type=Path, default=Path("build/bench/latency.json"))
    options = parser.parse_args()
    latency = measure(options.seconds, (1,), "measured: here")
    speed = Speed(UNKNOWN.flops_per_s, UNKNOWN.bytes_per_s, UNKNOWN.link_bytes_per_s, "assumed", latency)
    found = {}
    with tempfile.TemporaryDirectory() as work:
        for name, folder in (*_exported(options.names, Path(work)), *((str(path), path) for path in options.bundle)):
            found[name] = compare(open_bundle(folder, None), speed)
    rows = [_row(name, whole) for name, rows in found.items() for whole in _steps(rows)]
    print(table(["bundle", "step", "predicted ms", "measured ms", "ratio"], rows))
    ratios = [whole.ratio for rows in found.values() for whole in _steps(rows) if whole.ratio]
    if ratios:
        print(f"ratio: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    said = {"latency": plain(latency), "bundles": {name: plain(rows) for name, rows in found.items()}}
    write_atomic(options.out, json.dumps(said, indent=1).encode())
    return 0


def _exported(names: list[str], work: Path) -> Iterator[tuple[str, Path]]:
    """Workloads, each as one bundle that is not cut."""
    for workload in CARRIED:
        if workload.name in names:
            built, out = work / "built", work / workload.name
            for folder in (built, out):
                folder.mkdir(exist_ok=True)
            yield workload.name, export_unequal(workload, built, out).made[0].folder


def _steps(rows: list[Compared]) -> list[Compared]:
    found = (together(rows, step) for step in ("inference", "training"))
    return [whole for whole in found if whole is not None]


def _row(name: str, whole: Compared) -> list[str]:
    predicted = "-" if whole.predicted_ns is None else f"{whole.predicted_ns / 1e6:.3f}"
    ratio = "-" if whole.ratio is None else f"{whole.ratio:.2f}"
    return [name, whole.step, predicted, f"{whole.measured_ns / 1e6:.3f}", ratio]


if __name__ == "__main__":
    sys.exit(main())
