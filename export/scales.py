"""A forward graph whose quantization scales can be moved: each weight's scales D become D * F, and F is an input.

F is a factor for each scale, or for each row of them, or one for all: it is broadcast, and by default it is 1. So
nothing fed is the forward graph, what is learned is independent of the numbers that it moves, and the file holds no
scales that the others do not hold. For trainers that move scales only (`edge.trainers.qzo`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import UsageError
from export.edit import Edit, add_input, redirect
from export.formats.grid import Grid
from export.formats.registry import ACTIVATIONS, STORED
from export.formats.report import WeightReport
from export.gradient.present import present
from export.order import order_just_in_time
from wire.manifest import Scales

PREFIX = "scales."
ENDS = {"int8": "s", "int8-blocks": "s", "int4": "s", "nf4": "a", "fp4": "a"}  # which stored tensor holds them


@dataclass(frozen=True)
class Factors:
    """A graph with factors of scales as inputs, and what they are factors of."""

    model: ir.Model
    scales: tuple[Scales, ...]


def refuse_rounded(formats: Iterable[str]) -> None:
    """Graphs that round activations have no use for inputs of scales.

    Raises:
        UsageError: one of the formats does.
    """
    rounding = sorted(set(formats) & set(ACTIVATIONS))
    if rounding:
        raise UsageError(
            f"expected weights in float, int8, int4 or codes for --scale-inputs, found {', '.join(rounding)}, which "
            "rounds activations: differences of its losses are noise; export with --quant int4 or --quant int8"
        )


def with_factors(forward: ir.Model, reports: Sequence[WeightReport], grid: Grid, segment: str) -> Factors | None:
    """A copy of a quantized forward graph in which every matrix and filter has factors; None where none is quantized.

    Args:
        forward: as it is shipped; weights and inputs keep their names.
        reports: of its weights.
        grid: settings of the formats.
        segment: what it is the graph of.
    """
    model = forward.clone()
    found = []
    for report in sorted(reports, key=lambda one: _first_use(model.graph, one)):
        shape = _shape(report, grid)
        stored = model.graph.initializers.get(f"{report.name}.{ENDS.get(report.format, '')}")
        if shape is None or stored is None or not stored.uses():
            continue
        _multiply(model.graph, stored, report.name, shape)
        own = _digest(forward.graph, report)
        found.append(Scales(f"{PREFIX}{report.name}", report.name, report.format, segment, shape, own))
    order_just_in_time(model)
    return Factors(model, tuple(found)) if found else None


def _shape(report: WeightReport, grid: Grid) -> tuple[int, ...] | None:
    """Of a weight's scales as factors see them: [rows, blocks] where rows are whole blocks; None where there are none.

    Tables stay as they are: of most of their rows no loss says anything.
    """
    layout = report.layout
    if layout is None or report.format not in ENDS or layout.kind == "table":
        return None
    if report.format == "int8":
        return (layout.rows,)
    if report.format in ("nf4", "fp4"):
        if grid.nested_scales:
            return None
        whole, block = layout.rows * layout.columns, grid.code_block
        return (layout.rows, layout.columns // block) if layout.columns % block == 0 else (whole // block,)
    return (layout.rows, layout.columns // grid.integer_block)


def _first_use(graph: ir.Graph, report: WeightReport) -> int:
    """Where in the run a weight is read first."""
    stored = graph.initializers.get(f"{report.name}.{ENDS.get(report.format, '')}")
    readers = set() if stored is None else {use.node for use in stored.uses()}
    return next((place for place, node in enumerate(graph) if node in readers), 0)


def _multiply(graph: ir.Graph, stored: ir.Value, weight: str, shape: tuple[int, ...]) -> None:
    """Whoever read the scales of a weight reads D F."""
    tensor = present(stored.const_value)
    flat = tuple(int(d) for d in tensor.shape.numpy())
    readers = {use.node for use in stored.uses()}
    first = next(node for node in graph if node in readers)
    edit = Edit(graph, f"{PREFIX}{weight}")
    dims = [d if d == 1 else f"f_{d}" for d in shape]
    factor = add_input(graph, f"{PREFIX}{weight}", np.ones([1] * len(shape), np.float32), dims)
    before = stored
    if flat != shape:  # the same bytes in another shape: a file holds them once
        before = ir.val(f"{stored.name}.rows", const_value=ir.tensor(tensor.numpy().reshape(shape)))
        graph.register_initializer(before)
    moved = edit.op("Mul", before, factor)
    moved.type, moved.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(list(shape))
    if flat != shape:
        moved = edit.op("Reshape", moved, edit.constant("flat", flat, np.int64))
        moved.type, moved.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(list(flat))
    edit.put_before(first)
    redirect(stored, moved, keep=edit.nodes)
    if not stored.uses():
        graph.initializers.pop(str(stored.name))


def _digest(graph: ir.Graph, report: WeightReport) -> str:
    """Of a weight's format and stored bytes: what its factors belong to, on every board that has it so."""
    digest = hashlib.sha256(report.format.encode())
    begins = f"{report.name}."
    stored = {n.removeprefix(begins): v for n, v in graph.initializers.items() if n.startswith(begins)}
    for end in sorted(end for end in stored if end.removesuffix(".linear") == end or end[:-7] not in stored):
        digest.update(present(stored[end].const_value).tobytes())
    return digest.hexdigest()


def moved(
    exact: ir.Model,
    shipped: ir.Model,
    reports: Iterable[WeightReport],
    grid: Grid,
    factors: Mapping[str, NDArray[np.float32]],
) -> ir.Model:
    """`exact` with weights restored by numpy from the forward graph's own bytes, their scales moved first.

    Args:
        exact: the forward graph in float32.
        shipped: the same as it is shipped, whose scales are stored.
        reports: of its weights.
        grid: settings of the formats.
        factors: by weight.
    """
    model = exact.clone()
    stored, weights = shipped.graph.initializers, model.graph.initializers
    for report in reports:
        layout = report.layout
        if layout is None or report.name not in weights:
            continue
        parts = _parts(stored, report.name)
        factor = factors.get(report.name)
        if factor is not None:
            end, shape = ENDS[report.format], _shape(report, grid)
            scales = parts[end]
            parts[end] = (scales.reshape(present(shape)) * factor).reshape(scales.shape).astype(np.float32)
        rows = STORED[report.format].restore(parts, layout, grid)
        weights[report.name].const_value = ir.tensor(layout.from_rows(rows), name=report.name)
    return model


def _parts(stored: Mapping[str, ir.Value], weight: str) -> dict[str, NDArray[Any]]:
    begins = f"{weight}."
    return {n.removeprefix(begins): present(v.const_value).numpy() for n, v in stored.items() if n.startswith(begins)}
