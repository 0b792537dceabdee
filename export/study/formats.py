"""A model in one format, on disk: its graphs, the bytes of its weights, and what the weights lost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from export.formats.report import WeightReport
from export.order import order_just_in_time
from export.study.rows import Row
from export.study.variant import FP32, Variant
from export.study.workshop import ITEMS, Refused, Workshop
from export.write import write_graphs

WEIGHTS = "weights.bin"


@dataclass(frozen=True)
class Written:
    """The graphs of a format by name, and its row as far as the weights tell; no graphs where the row has a reason."""

    row: Row
    graphs: Mapping[str, Path]


def write_format(variant: Variant, workshop: Workshop, folder: Path, most_bytes: int) -> Written:
    """Put a model into a format and write its graphs.

    Args:
        variant: the format with its settings.
        workshop: the model.
        folder: where to; made.
        most_bytes: what the weights take in fp32; a format that is not smaller is none. 0 for fp32 itself.

    Raises:
        StorageError: the folder cannot be written.
    """
    name, models, reports = variant.name, dict[str, ir.Model](), list[WeightReport]()
    folder.mkdir(parents=True)
    for graph in workshop.graphs:
        try:
            models[graph], of_graph = workshop.put(variant, graph)
        except Refused as refusal:
            return Written(Row(name, reason=f"it cannot be made: {refusal}"), {})
        order_just_in_time(models[graph])
        reports = of_graph if graph == ITEMS else reports
    write_graphs(models, folder, WEIGHTS)
    stored = stored_bytes(models[ITEMS])
    if name != FP32:
        if variant.format not in {report.format for report in reports}:
            return Written(Row(name, reason=f"no weight can take it: {_because(reports)}"), {})
        if stored >= most_bytes:
            return Written(Row(name, reason=f"nothing shrank: {_because(reports)}"), {})
    return Written(
        _row(name, stored, reports, workshop.energies), {graph: folder / f"{graph}.onnx" for graph in models}
    )


def stored_bytes(written: ir.Model) -> int:
    """What the weights of a written graph take: those in its file once each, whoever shares them."""
    held: dict[int, int] = {}
    inline = 0
    for graph in written.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                held[tensor.offset or 0] = tensor.nbytes
            elif tensor is not None and not value.is_graph_input():
                inline += tensor.nbytes
    return sum(held.values()) + inline


def _row(name: str, stored: int, reports: Sequence[WeightReport], energies: Mapping[str, float]) -> Row:
    changed = [report for report in reports if report.format != FP32]
    lost = [(report, energies[report.name]) for report in changed if report.name in energies]
    known = [(report, e, report.relative_error) for report, e in lost if report.relative_error is not None]
    sqnr = None
    if known:
        noise, signal = sum(e * r * r for _, e, r in known), sum(e for _, e, _ in known)
        sqnr = math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal else -math.inf
    told = [(report.name, report.sqnr_db) for report in changed if report.sqnr_db is not None]
    worst = min(told, key=lambda pair: pair[1], default=None)
    return Row(
        name,
        stored_bytes=stored,
        weights=Counter(report.format for report in reports),
        sqnr_db=sqnr,
        worst=worst,
    )


def _because(reports: Sequence[WeightReport]) -> str:
    """Why weights stayed as they were: the commonest reasons."""
    reasons = Counter(report.reason.partition("; ")[0] for report in reports if report.reason)
    told = [f"{count} {'weight' if count == 1 else 'weights'}: {why}" for why, count in reasons.most_common(3)]
    return "; ".join(told) or "the model has no matrix"
