"""Integers for activations in the graphs of an export: which weights of which graph, calibrated on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from export.activations.calibrate import loaded, required
from export.activations.dynamic import dynamic
from export.activations.methods import Method
from export.activations.spare import MOST, lost
from export.activations.static import FORMAT as STATIC
from export.activations.static import static
from export.activations.tools import Run
from export.formats.registry import ACTIVATIONS
from export.formats.report import WeightReport
from export.formats.rewrite import Formats, asked_for, weights_of
from export.strip import has_slots


@dataclass
class Activations:
    """What the tools need beside formats.

    Attributes:
        work: a folder for their files.
        runs: what the first segment of a chain is fed; those behind it get what those before them made of it. Layers
            are judged by them (`export.activations.spare`), and "int8-static" is calibrated on them.
        method: how ranges follow from runs.
        reduce: weights in seven bits, see `export.activations.saturation`.
    """

    work: Path
    runs: Sequence[Run] = ()
    method: Method = "minmax"
    reduce: bool = False
    _values: list[dict[str, NDArray[Any]]] = field(init=False)

    def __post_init__(self) -> None:
        self._values = [dict(run) for run in self.runs]

    def rewrite(self, model: ir.Model, formats: Formats) -> tuple[ir.Model, list[WeightReport]]:
        """A graph with those of its weights that are asked for; the graph itself where it has slots, or none are.

        Raises:
            BadData: runs do not fit the graph, or there are none for "int8-static".
            UnsupportedModel: a weight holds NaN or infinity, or a tool gives up.
        """
        reports: list[WeightReport] = []
        for fmt in ACTIVATIONS if not has_slots(model) else ():
            names = [weight.name for weight in weights_of(model) if asked_for(weight, formats) == fmt]
            read = required(model)
            runs = [{name: run[name] for name in read if name in run} for run in self._values]
            spared = self._spared(model, names, runs, fixed=fmt == STATIC)
            reports += spared
            names = [name for name in names if name not in {report.name for report in spared}]
            if not names:
                continue
            if fmt == STATIC:
                model, made = static(model, names, runs, self.method, self.work, reduce=self.reduce)
            else:
                model, made = dynamic(model, names, self.work, reduce=self.reduce)
            reports += made
        return model, reports

    def _spared(self, model: ir.Model, names: Sequence[str], runs: Sequence[Run], *, fixed: bool) -> list[WeightReport]:
        """What is left to float activations because rounding them costs too much."""
        found = lost(model, names, runs, self.work, fixed=fixed) if runs and names else {}
        sizes = {weight.name: weight.nbytes for weight in weights_of(model)}
        return [
            WeightReport(name, "fp32", sizes[name], sizes[name], reason=f"rounding its input loses {loss:.1%}")
            for name, loss in found.items()
            if loss > MOST
        ]

    def pass_on(self, exact: ir.Model) -> None:
        """Run a segment's float graph, so that the segments behind it know what they are fed."""
        if not self._values:
            return
        with TemporaryDirectory(dir=self.work) as folder:
            graph = loaded(exact, Path(folder))
        for values in self._values:
            values.update(graph(values))


def merged(tools: Sequence[WeightReport], others: Sequence[WeightReport]) -> list[WeightReport]:
    """One report per weight: what a tool left is whatever it became afterwards, for the tool's reason."""
    left = {report.name: report.reason for report in tools if report.format == "fp32"}
    taken = [report for report in tools if report.format != "fp32"]
    return [*taken, *(_because(report, left.get(report.name, "")) for report in others)]


def _because(report: WeightReport, reason: str) -> WeightReport:
    if not reason:
        return report
    return replace(report, reason=reason if report.format == "fp32" else f"{reason}; {report.format} instead")


def beside(own: Sequence[WeightReport], slots: Sequence[WeightReport]) -> list[WeightReport]:
    """Reports of a graph without slots: what a tool took is stored once more, for the graph with slots."""
    other = {report.name: report for report in slots}
    return [
        replace(
            report,
            bytes_after=report.bytes_after + other[report.name].bytes_after,
            reason=f"beside {other[report.name].format} in the graph with slots",
        )
        if report.format in ACTIVATIONS and report.name in other
        else report
        for report in own
    ]


def takes(reports: Mapping[str, Sequence[WeightReport]], kind: str) -> bool:
    """Whether a graph has weights that are multiplied with integers."""
    return any(report.format in ACTIVATIONS for report in reports.get(kind, ()))
