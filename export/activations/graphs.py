"""Integers for activations in the graphs of an export: which weights of which graph, calibrated on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.activations.calibrate import loaded, required
from export.activations.carry import SENT, check_size, receive, send
from export.activations.dynamic import dynamic
from export.activations.methods import Method
from export.activations.spare import MOST, lost
from export.activations.static import FORMAT as STATIC
from export.activations.static import static
from export.activations.tools import Run
from export.apart import apart
from export.formats.registry import ACTIVATIONS
from export.formats.report import WeightReport
from export.formats.rewrite import Formats, asked_for, weights_of
from export.strip import has_slots

# measured on x86-64 with VNNI: 1.0 to 1.3 times as long as in float32, where static scales take 0.2 to 0.6 times
SLOW = "a filter per channel is slower with dynamic scales than in float"


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

        The work is done in a child process, which reads the weights and runs the float graph.

        Raises:
            BadData: runs do not fit the graph, or there are none for "int8-static".
            UnsupportedModel: a weight holds NaN or infinity, or a tool gives up.
        """
        reports: list[WeightReport] = []
        for fmt in ACTIVATIONS if not has_slots(model) else ():
            names = [weight.name for weight in weights_of(model) if asked_for(weight, formats) == fmt]
            if not names:
                continue
            with TemporaryDirectory(dir=self.work) as folder:
                made = apart(partial(self._made, model, names, fmt, Path(folder)))
                model = receive(Path(folder) / SENT, model)
            reports += [WeightReport(**report) for report in made]
        return model, reports

    def _made(self, model: ir.Model, names: Sequence[str], fmt: str, folder: Path) -> list[dict[str, Any]]:
        """Write the graph as one of the tools makes it; its reports."""
        check_size(model, names if fmt != STATIC else None)
        read = required(model)
        runs = [{name: run[name] for name in read if name in run} for run in self._values]
        costs = lost(model, names, runs, folder, fixed=fmt == STATIC) if runs else {}
        spared = {name: f"rounding its input loses {cost:.1%}" for name, cost in costs.items() if cost > MOST}
        if fmt != STATIC:
            spared |= {name: SLOW for name in names if _by_channel(model.graph.initializers[name])}
        left = [name for name in names if name not in spared]
        made: tuple[ir.Model, list[WeightReport]] = model, []
        if left and fmt == STATIC:
            made = static(model, left, runs, self.method, folder, reduce=self.reduce)
        elif left:
            made = dynamic(model, left, folder, reduce=self.reduce)
        send(made[0], folder, [name for name in made[0].graph.initializers if name not in model.graph.initializers])
        sizes = {weight.name: weight.nbytes for weight in weights_of(model)}
        kept = [WeightReport(name, "fp32", sizes[name], sizes[name], reason=why) for name, why in spared.items()]
        return [asdict(report) for report in (*kept, *made[1])]

    def pass_on(self, exact: ir.Model) -> None:
        """Run a segment's float graph, so that the segments behind it know what they are fed."""
        if self._values:
            with TemporaryDirectory(dir=self.work) as folder:
                files = [Path(folder) / f"{number}.npz" for number in range(len(self._values))]
                apart(partial(self._ran, exact, Path(folder), files))
                for values, path in zip(self._values, files, strict=True):
                    with np.load(path) as file:
                        values.update({name: file[name] for name in file.files})

    def _ran(self, exact: ir.Model, folder: Path, files: Sequence[Path]) -> None:
        graph = loaded(exact, folder)
        for values, path in zip(self._values, files, strict=True):
            arrays: dict[str, Any] = graph(values)
            np.savez(path, **arrays)


def _by_channel(weight: ir.Value) -> bool:
    """Whether it is a filter for each channel alone."""
    dims = weight.const_value.shape.numpy() if weight.const_value is not None else ()
    return len(dims) > 2 and dims[1] == 1


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
