"""Predicted against measured peaks: `python -m bench.memory_judge [WORKLOAD ...] [--all-options] [--segments N]`.

Every workload of the test suite is exported in float32 and int8, for serving and, where it has a head, for training;
each of its graphs runs in a fresh process. Prints MiB above the process before its session, and ends with 1 if a
prediction misses the bar. The constants of the model (devices/memory.toml) were measured on other graphs.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from console.errors import EdgequiltError
from console.table import table
from devices.memory import JUDGED_FROM_BYTES, MIB, allowed_miss
from export.chain import Chain
from export.measure import CANDIDATES, Measurer, Peak, candidates_for
from export.predict import packs, predict
from export.prepare import Prepared, Wanted, prepare
from export.remeasure import runtime_offset
from export.stage import Key, build_stage
from export.stage_feeds import checking_values
from tests.workloads.registry import WORKLOADS, Workload
from wire.manifest import Options

CLASSES, RANK, BATCH = 4, 4, 8
FORMATS = ("fp32", "int8")
PLAIN_ONLY = CANDIDATES[:1]
HEADER = ["workload", "mode", "format", "graph", "options", "predicted", "measured", "miss", "bar"]


@dataclass(frozen=True)
class Verdict:
    """One graph of a workload under one set of options."""

    workload: str
    mode: str
    quant: str
    graph: str
    parts: dict[str, int]
    peak: Peak
    offset_bytes: int  # what the runtime of this machine takes beyond the constants

    @property
    def predicted_bytes(self) -> int:
        """Of the whole process, on this machine."""
        return sum(self.parts.values()) + self.offset_bytes

    @property
    def judged(self) -> bool:
        """Whether it is large enough for the bar."""
        return self.peak.growth_bytes >= JUDGED_FROM_BYTES

    @property
    def holds(self) -> bool:
        """Whether the prediction is within the bar."""
        allowed = allowed_miss(self.peak.peak_bytes, self.peak.base_bytes)
        return abs(self.predicted_bytes - self.peak.peak_bytes) <= allowed

    def row(self) -> list[str]:
        """For a table with `HEADER`."""
        options, base = self.peak.options, self.peak.base_bytes
        arena = "" if options.cpu_arena else ", no arena"
        packed = ", packed" if packs(options) else ""
        how = f"{options.graph_optimization}, {options.execution_order}{arena}{packed}"
        miss = 100 * (self.predicted_bytes - self.peak.peak_bytes) / self.peak.growth_bytes
        verdict = "small" if not self.judged else "holds" if self.holds else "MISSES"
        sizes = [f"{(n - base) / MIB:.1f}" for n in (self.predicted_bytes, self.peak.peak_bytes)]
        return [self.workload, self.mode, self.quant, self.graph, how, *sizes, f"{miss:+.1f} %", verdict]


def judge(
    workload: Workload,
    mode: str,
    folder: Path,
    *,
    formats: Sequence[str] = FORMATS,
    candidates: tuple[Options, ...] = PLAIN_ONLY,
    segments: int = 1,
) -> Iterator[Verdict]:
    """Every graph of a workload, in every format and under each of the options.

    Args:
        workload: built below `folder` where it is not there yet.
        mode: "serve" for its own outputs, "train" for a head and adapters.
        folder: for everything in between.
        formats: of the weights.
        candidates: session options.
        segments: how many, cut at about equal numbers of units.
    """
    learns = mode == "train"
    wanted = Wanted(
        workload.source(folder / "sources"),
        workload.task,
        classes=CLASSES if learns else 0,
        sequence=workload.sequence,
        targets="auto" if learns else "",
        sizes=workload.sizes,
        states=workload.states,
    )
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        prepared = prepare(wanted, tuple(formats), (mode,), work / "source")
        offset = runtime_offset(work, prepared.captured.preprocess.kind)
        for quant in formats:
            for graph, parts, peak in _measured(prepared, mode, quant, segments, work, candidates):
                yield Verdict(workload.name, mode, quant, graph, parts, peak, offset)


def _measured(
    prepared: Prepared, mode: str, quant: str, segments: int, work: Path, candidates: tuple[Options, ...]
) -> Iterator[tuple[str, dict[str, int], Peak]]:
    batch = next((allowed for allowed in prepared.batches if allowed <= BATCH), prepared.batches[-1])
    positions = prepared.cost(batch, mode).positions if segments > 1 else ()
    cuts = tuple(positions[len(positions) * k // segments] for k in range(1, segments))
    stage = build_stage(prepared, Key(mode, quant, batch, cuts), work / quant)
    chain = Chain(stage.links)
    fed = chain.feeds_of(chain.backward(chain.forward(checking_values(prepared, batch, RANK))))
    chain.close()
    kind = prepared.captured.preprocess.kind
    for path, values in fed.items():
        suited = candidates_for(path)
        for options in (suited[CANDIDATES.index(one)] for one in candidates):
            yield path.stem, predict(path, options, kind, RANK), Measurer(work, (options,), kind).best(path, values)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What cannot be exported is said, and the rest goes on."""
    try:
        yield
    except EdgequiltError as refusal:
        print(f"{what}: {refusal}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Hold predictions against what workloads take.")
    parser.add_argument("names", nargs="*", help="workloads; all of them where none is named")
    parser.add_argument("--all-options", action="store_true", help="every set of session options that exports try")
    parser.add_argument("--segments", type=int, default=1)
    given = parser.parse_args()
    candidates = CANDIDATES if given.all_options else PLAIN_ONLY
    found: list[Verdict] = []
    with tempfile.TemporaryDirectory() as name:
        for workload in WORKLOADS:
            if workload.refused or (given.names and workload.name not in given.names):
                continue
            for mode in ("serve", "train") if workload.trains else ("serve",):
                with _told(f"{workload.name}, {mode}"):
                    found += judge(workload, mode, Path(name), candidates=candidates, segments=given.segments)
    print(table(HEADER, [verdict.row() for verdict in found]))
    return int(any(verdict.judged and not verdict.holds for verdict in found))


if __name__ == "__main__":
    raise SystemExit(main())
