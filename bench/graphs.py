"""Every graph of a bundle under two runtimes: `python -m bench.graphs BUNDLE ... [--floor PYTHON] [--json FILE]`.

Each graph runs in a fresh process of each interpreter, with the session options of its manifest and real rows. Prints
its options, its anonymous peak above the process before its session, and how far the outputs of both are apart:
max |a - b| over max(1, max |b|), gradients over the largest of them. Ends with 1 where that is above the bar.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.bundle_feeds import Values, feeds_of
from console.table import MIB, table
from export.difference import relative_difference
from export.measure import ROOT, environment
from wire.bundle import Bundle, open_bundle
from wire.manifest import Graph, Options
from wire.record import plain

FLOOR = os.environ.get("EDGEQUILT_FLOOR_PYTHON", str(ROOT / ".venv-floor" / "bin" / "python"))
BAR, SUMMED_BAR = 1e-5, 1e-4
SUMMED = frozenset({"int8-blocks", "int4", "nf4", "fp4"})  # their products sum in an order of their own
TIMEOUT_S = 600
VERSION = "import onnxruntime; print(onnxruntime.__version__)"
GRAD = "grad."


@dataclass(frozen=True)
class Shown:
    """A graph under two runtimes; `peaks_bytes` are anonymous, above the process before the session."""

    graph: str
    bucket: str
    options: str
    peaks_bytes: tuple[int, int]
    steps_s: tuple[float, float]
    difference: float

    def row(self) -> list[str]:
        """For a table."""
        peaks = [f"{size / MIB:.1f}" for size in self.peaks_bytes]
        return [self.graph, self.bucket, self.options, *peaks, f"{self.difference:.1e}"]


def words(options: Options) -> str:
    """Session options in short.

    >>> words(Options("disable", "priority", False, True, {"session.disable_prepacking": "1"}))
    'disable, priority, arena, no pattern, unpacked'
    """
    arena = "arena" if options.cpu_arena else "no arena"
    pattern = "pattern" if options.memory_pattern else "no pattern"
    packed = "unpacked" if options.config.get("session.disable_prepacking") == "1" else "packed"
    return f"{options.graph_optimization}, {options.execution_order}, {arena}, {pattern}, {packed}"


def shown(bundle: Bundle, pythons: Sequence[str]) -> list[Shown]:
    """Every graph of a bundle under the runtimes of two interpreters.

    Raises:
        RuntimeError: a graph does not run; with what the runtime says.
    """
    fed = feeds_of(bundle)
    graphs = [(s.name, g) for s in bundle.manifest.segments for g in s.graphs]
    with tempfile.TemporaryDirectory(prefix="edgequilt-") as name:
        return [_shown(bundle, segment, graph, fed[graph.file], pythons, Path(name)) for segment, graph in graphs]


def _shown(bundle: Bundle, segment: str, graph: Graph, fed: Values, pythons: Sequence[str], work: Path) -> Shown:
    arrays: dict[str, Any] = dict(fed)
    np.savez(work / "feeds.npz", **arrays)
    (work / "options.json").write_text(json.dumps(plain(graph.options)), encoding="utf-8")
    figures, outputs = zip(*(_run(python, bundle.path(graph.file), work) for python in pythons), strict=True)
    peaks = [one["peak_anon_bytes"] - one["base_anon_bytes"] for one in figures]
    steps = [one["step_s"] for one in figures]
    apart = difference(outputs[0], outputs[1])
    name = f"{segment}.{graph.kind}"
    return Shown(name, graph.bucket, words(graph.options), (peaks[0], peaks[1]), (steps[0], steps[1]), apart)


def _run(python: str, graph: Path, work: Path) -> tuple[dict[str, Any], Values]:
    command = [python, "-m", "export.peak", str(graph.resolve()), "--options", str(work / "options.json")]
    command += ["--feeds", str(work / "feeds.npz"), "--keep", str(work / "outputs.npz")]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise RuntimeError(f"expected {graph.name} to run under {python}, found that it stops: {said}")
    with np.load(work / "outputs.npz") as file:
        return json.loads(done.stdout.splitlines()[-1]), {name: file[name] for name in file.files}


def difference(got: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """The largest over all outputs; gradients relative to the largest of them."""
    steepest = max((float(np.abs(v).max(initial=0)) for n, v in expected.items() if n.startswith(GRAD)), default=1.0)
    scales = {name: (steepest or 1.0) if name.startswith(GRAD) else None for name in expected}
    return max(relative_difference(got[name], value, scales[name]) for name, value in expected.items())


def bar_of(bundle: Bundle) -> float:
    """How far two runtimes may be apart."""
    formats = {record.get("format") for record in bundle.manifest.quantization}
    return SUMMED_BAR if formats & SUMMED else BAR


def version(python: str) -> str:
    """Of an interpreter's runtime."""
    return subprocess.run([python, "-c", VERSION], capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Every graph of a bundle under two runtimes.")
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--floor", default=FLOOR, metavar="PYTHON", help="an interpreter with the older runtime")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, in bytes and seconds")
    given = parser.parse_args()
    pythons, missed, everything = (given.floor, sys.executable), False, dict[str, Any]()
    versions = [version(python) for python in pythons]
    header = ["graph", "bucket", "options", *(f"anonymous, {one}" for one in versions), "apart"]
    for folder in given.bundles:
        bundle = open_bundle(folder, None)
        found = shown(bundle, pythons)
        everything[bundle.folder.name] = {"runtimes": versions, "graphs": [asdict(one) for one in found]}
        print(f"{folder} ({bundle.manifest.plan.quant}): MiB above the process before its session")
        print(table(header, [one.row() for one in found]))
        missed |= not all(one.difference <= bar_of(bundle) for one in found)
    if given.json is not None:
        given.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
