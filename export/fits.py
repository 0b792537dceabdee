"""Whether a model, or a bundle that was made of it, fits a board: the planner's answer, and nothing is built.

Of a model every board is planned for as `edgequilt export` does it. A bundle is as it is: its largest segment, as it
was predicted or measured, whichever is more, has to be within another board's budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from console.errors import DoesNotFit, UnsupportedModel
from console.table import mib
from devices.enough import KnownBoard
from devices.runtimes import opset_of
from devices.stages import Station
from devices.times import unit_ns, works_ns
from export.formats.broken import refuse_format
from export.report.account import accounts
from wire.bundle import Bundle
from wire.manifest import Manifest
from wire.step import inference_graphs, training_graphs

if TYPE_CHECKING:
    from export.prepare import Prepared


@dataclass(frozen=True)
class Fit:
    """One board's row.

    Attributes:
        board: its name.
        fits: whether it does.
        budget_bytes: of a worker there.
        needed_bytes: its peak at the largest segment; None where no plan was found.
        segments: that run one after the other.
        micro_batch: items of a run.
        rank: of adapters.
        least_s: of an item, at least (docs/speed.md); None where nobody knows the board's speed.
        why: reasons of the plan, or why there is none.
    """

    board: str
    fits: bool
    budget_bytes: int
    needed_bytes: int | None = None
    segments: int | None = None
    micro_batch: int | None = None
    rank: int | None = None
    least_s: float | None = None
    why: tuple[str, ...] = ()


def of_model(prepared: Prepared, station: Station, known: Sequence[KnownBoard] | None) -> Fit:
    """Plan for one board.

    Args:
        prepared: the model, with the format of this board among its formats.
        station: the board and its speed.
        known: boards that a refusal may name.
    """
    board = station.board
    try:
        opset_of([(board.name, board.onnxruntime_max)])
        for name in (board.quant, *prepared.keep.values()):
            refuse_format(name, prepared.stock.grid, board.onnxruntime_max)
        decision, _ = prepared.decide(board, known)
    except (DoesNotFit, UnsupportedModel) as refusal:
        return Fit(board.name, False, board.budget_bytes, why=(str(refusal),))
    return Fit(
        board.name,
        True,
        board.budget_bytes,
        max(decision.predicted_bytes),
        len(decision.cuts) + 1,
        decision.micro_batch,
        decision.rank,
        _least_s(prepared, station, decision.micro_batch),
        decision.reasons,
    )


def _least_s(prepared: Prepared, station: Station, micro_batch: int) -> float | None:
    """Of one item, at the board's peak rates."""
    if not station.speed.known:
        return None
    board = station.board
    units = prepared.cost(micro_batch, board.mode).units
    return sum(unit_ns(unit, board.quant, board.mode, micro_batch, station.speed) for unit in units) / micro_batch / 1e9


def _bundle_s(manifest: Manifest, station: Station) -> float | None:
    """Of one item, by the work of the graphs of a training step, or of an inference where there is none."""
    bucket = manifest.buckets[0]
    graphs = training_graphs(manifest, bucket.name) or inference_graphs(manifest, bucket.name)
    if not station.speed.known or not all(graph.work for graph in graphs):
        return None
    total = sum(works_ns(graph.work, station.speed) + station.speed.run_ns() for graph in graphs)
    return total / bucket.batch / 1e9


def of_bundle(bundle: Bundle, station: Station) -> Fit:
    """Compare what a bundle takes with what a board has.

    Raises:
        BadData: the bundle's manifest does not add up.
    """
    (account,) = accounts([bundle])
    board, plan = station.board, bundle.manifest.plan
    needed = max(plan.predicted_bytes, account.memory.measured_bytes or 0)
    made_for = f"made for {plan.device}"
    try:
        opset_of([(board.name, board.onnxruntime_max)])
    except DoesNotFit as refusal:
        return Fit(board.name, False, board.budget_bytes, needed, why=(str(refusal),))
    fits = needed <= board.budget_bytes
    short = f"{made_for}; {mib(needed - board.budget_bytes)} too much here: export the model for this board"
    return Fit(
        board.name,
        fits,
        board.budget_bytes,
        needed,
        len(bundle.manifest.segments),
        plan.micro_batch,
        plan.rank,
        _bundle_s(bundle.manifest, station),
        why=(made_for if fits else short,),
    )
