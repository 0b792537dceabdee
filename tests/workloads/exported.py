"""A workload for unequal boards: what each can hold is found first, so that one has to cut where the other need not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from console.progress import progress
from devices.fleet import BoardChain, Settings, station
from devices.memory import MIB
from devices.plan import Board, fewest_cuts, needs
from devices.stages import Station
from devices.times import Speed
from devices.units import Unit
from export.pipeline import ExportedBundle, ExportRequest, export_prepared
from export.prepare import Prepared, prepare
from tests.workloads.registry import Workload
from wire.bundle import Bundle, open_bundle
from wire.keys import new_key

LARGE, SMALL, ACROSS = "large", "small", "across"
STEP_BYTES = 64 << 10
SPEED = Speed(flops_per_s=10**9, bytes_per_s=10**9, link_bytes_per_s=10**9)


@dataclass(frozen=True)
class Exported:
    """Bundles of one workload: one per board, and a chain over both; `answers` of the whole, by micro-batch."""

    workload: Workload
    prepared: Prepared
    made: tuple[ExportedBundle, ...]
    answers: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, list[Bundle]]:
        """What runs together: each board alone, and those of the chain in running order."""
        found: dict[str, list[Bundle]] = {}
        for bundle in (open_bundle(made.folder, None) for made in self.made):
            manifest = bundle.manifest
            found.setdefault(ACROSS if manifest.chain else manifest.plan.device, []).append(bundle)
        return found


def export_unequal(workload: Workload, built: Path, out: Path, quant: str = "fp32") -> Exported:
    """Export a workload for a board that holds it whole, for one that does not, and for both as a chain."""
    request, prepared = _prepared(workload, built, out, quant)
    large, small = (Board(*given, "serve", quant, 1) for given in budgets(prepared, quant))
    chain = BoardChain(ACROSS, (Station(small, SPEED), Station(large, SPEED)), "throughput")
    return _exported(workload, replace(request, boards=(large, small), chains=(chain,)), prepared, out)


def export_across(workload: Workload, built: Path, out: Path, boards: Sequence[str], quant: str = "fp32") -> Exported:
    """Export a workload for a chain of boards that have profiles, the slowest of which shall be as fast as can be."""
    request, prepared = _prepared(workload, built, out, quant)
    stations = tuple(station(name, Settings("serve", quant, (quant,)), profile=name) for name in boards)
    return _exported(workload, replace(request, chains=(BoardChain(ACROSS, stations, "throughput"),)), prepared, out)


def _prepared(workload: Workload, built: Path, out: Path, quant: str) -> tuple[ExportRequest, Prepared]:
    request = ExportRequest(
        workload.source(built),
        workload.task,
        (),
        (),
        new_key("publisher", "tester"),
        out,
        sequence=workload.sequence,
        targets="",
        name=workload.name,
        sizes=workload.sizes,
        states=workload.states,
    )
    return request, prepare(request.wanted, (quant,), ("serve",), out / "source")


def _exported(workload: Workload, request: ExportRequest, prepared: Prepared, out: Path) -> Exported:
    with progress("exporting", quiet=True) as bar:
        return Exported(workload, prepared, tuple(export_prepared(request, prepared, out, bar)))


def budgets(prepared: Prepared, quant: str) -> tuple[tuple[str, int], tuple[str, int]]:
    """A budget with room for the largest micro-batch in one segment, and one that needs two, but not the least."""
    most, least = (prepared.cost(batch, "serve").units for batch in (prepared.batches[0], prepared.batches[-1]))
    board = Board(LARGE, 0, "serve", quant, 1)
    whole = needs(most, board, (), prepared.batches[0])[0].total
    once = needs(least, board, (), prepared.batches[-1])[0].total
    twice = smallest_for(least, board, prepared.batches[-1], 2)
    return (LARGE, whole + whole // 4), (SMALL, once - (once - twice) // 4)


def smallest_for(units: tuple[Unit, ...], board: Board, batch: int, segments: int) -> int:
    """The smallest budget with which so many segments do, to 64 KiB; at least that of one unit where none does."""
    low, high = 0, needs(units, board, (), batch)[0].total
    while high - low > STEP_BYTES:
        middle = (low + high) // 2
        cuts = fewest_cuts(units, replace(board, budget_bytes=middle), batch)
        low, high = (low, middle) if cuts is not None and len(cuts) < segments else (middle, high)
    return high


def above_base(bundle: ExportedBundle) -> list[tuple[str, float, float]]:
    """Name, predicted and measured MiB above the runtime base of every graph."""
    out = []
    for segment in bundle.manifest.segments:
        for graph in segment.graphs:
            memory = graph.memory
            base = memory.base_bytes or 0
            measured = memory.measured_bytes or 0
            out.append((graph.file, (memory.predicted_bytes - base) / MIB, (measured - base) / MIB))
    return out
