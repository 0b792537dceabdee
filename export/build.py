"""Segments as finished graphs: differentiated, quantized, in execution order, and their exact twins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel
from export.activations.graphs import Activations, beside, merged
from export.activations.half import round_forward_half
from export.bias import fold_bias
from export.cut import SEGMENT, Segment, cut
from export.formats.grid import Grid
from export.formats.registry import STORED
from export.formats.report import WeightReport
from export.formats.rewrite import Formats, quantize_weights
from export.formats.stock import Stock
from export.gradient.backward import LossSpec, build_backward, gradient_name
from export.gradient.present import present
from export.order import order_just_in_time
from export.scales import with_factors
from export.strip import has_slots, strip_slots
from wire.manifest import Scales

FRONT = "front"  # of the names of segments of a front
RETURNED = "returned"  # of the graph that begins with the gradient of features
BACKWARD = ("backward", RETURNED)


@dataclass(frozen=True)
class Piece:
    """A segment with its graphs by kind: `exact` in float32, `shipped` as the board gets them, and their weights.

    `unrounded` is the shipped backward graph with float activations, where those of its forward half are rounded.
    """

    segment: Segment
    exact: dict[str, ir.Model]
    shipped: dict[str, ir.Model]
    reports: dict[str, list[WeightReport]]
    scales: tuple[Scales, ...] = ()
    unrounded: ir.Model | None = None


def build(
    frozen: ir.Model,
    positions: Sequence[int],
    mode: str,
    quant: Formats | Sequence[Formats],
    stock: Stock,
    serve: bool = False,
    activations: Activations | None = None,
    scales: bool = False,
    half: bool = False,
    called: Mapping[int, str] | None = None,
    front: int = 0,
    features: str = "",
    back_from: int = 0,
) -> list[Piece]:
    """Cut a frozen model and finish every graph of every segment.

    Args:
        frozen: the forward model with slots and head; left as it is.
        positions: node positions of the cuts.
        mode: "train" adds a backward graph to every segment at or after the first slot.
        quant: formats of the weights, for all segments or for each segment.
        stock: shared by all graphs of the model.
        serve: add a graph without slots to every segment that has some.
        activations: for formats of `export.formats.registry.ACTIVATIONS`.
        scales: add a graph with factors of scales to every segment that has some.
        half: backward graphs round the activations of their forward half (`export.activations.half`).
        called: names of boundaries by position, see `export.cut.cut`.
        front: how many segments are finished, if not all.
        features: of a head; the last segment gets a backward graph that begins with their gradient as well.
        back_from: segments that begin before this node get no backward graph.

    Raises:
        BadData: calibration runs do not fit.
        NoGradientRule: mode "train", and an operator cannot be differentiated.
    """
    segments = cut(frozen, positions, called, FRONT if front else SEGMENT)
    formats = [quant] * len(segments) if isinstance(quant, str | Mapping) else quant
    pieces = []
    begins = (0, *positions)
    for segment, own, start in zip(*(found[: front or None] for found in (segments, formats, begins)), strict=True):
        exact = _exact(segment, segment is segments[-1], mode if start >= back_from else "serve", serve)
        exact |= _from_features(segment, features) if segment is segments[-1] else {}
        piece = _piece(exact, segment, own, stock, activations)
        piece = _rounded(piece) if half else piece
        for model in (*(piece.shipped.get(kind) for kind in BACKWARD), piece.unrounded):
            if model is not None:
                fold_bias(model)
        pieces.append(_with_scales(piece, stock.grid) if scales else piece)
        if activations is not None and segment is not segments[-1]:
            activations.pass_on(segment.model)
    return pieces


def _exact(segment: Segment, last: bool, mode: str, serve: bool) -> dict[str, ir.Model]:
    exact = {"forward": segment.model}
    if mode == "train" and segment.wanted:
        exact["backward"] = build_backward(segment.model, wanted=segment.wanted, loss=LossSpec() if last else None)
    if serve and has_slots(segment.model):
        with suppress(UnsupportedModel):  # a cut through a slot: this segment keeps its forward graph
            exact["serve"] = strip_slots(segment.model)
    return exact


def _from_features(segment: Segment, features: str) -> dict[str, ir.Model]:
    """The way back for who has labels and head elsewhere: the gradient of the features comes in."""
    wanted = (*segment.adapters, *segment.differentiable)
    if not features or not wanted:
        return {}
    return {RETURNED: build_backward(segment.model, wanted=wanted, seeds={features: gradient_name(features)})}


def _piece(
    exact: dict[str, ir.Model], segment: Segment, quant: Formats, stock: Stock, activations: Activations | None
) -> Piece:
    shipped, reports = {}, {}
    for kind, original in exact.items():
        model, own = original.clone(), list[WeightReport]()
        if activations is not None and kind not in BACKWARD:
            model, own = activations.rewrite(model, quant)
        reports[kind] = merged(own, quantize_weights(model, quant, stock, backward=kind in BACKWARD))
        order_just_in_time(model)
        shipped[kind] = model
    if "serve" in reports:
        reports["serve"] = beside(reports["serve"], reports["forward"])
    return Piece(segment, exact, shipped, reports)


def _with_scales(piece: Piece, grid: Grid) -> Piece:
    made = with_factors(piece.shipped["forward"], piece.reports["forward"], grid, piece.segment.name)
    if made is None:
        return piece
    reports = {**piece.reports, "scales": piece.reports["forward"]}
    return replace(piece, shipped={**piece.shipped, "scales": made.model}, reports=reports, scales=made.scales)


def _rounded(piece: Piece) -> Piece:
    """The same with a backward graph that rounds activations, where that has products with int8 weights."""
    if "backward" not in piece.shipped:
        return piece
    model = piece.shipped["backward"].clone()
    if not round_forward_half(model):
        return piece
    return replace(piece, shipped={**piece.shipped, "backward": model}, unrounded=piece.shipped["backward"])


def twin(exact: ir.Model, shipped: ir.Model, reports: Iterable[WeightReport], grid: Grid) -> ir.Model:
    """`exact` with the weights that `shipped` has, restored by numpy from its own tensors: what it must compute."""
    model = exact.clone()
    stored, weights = shipped.graph.initializers, model.graph.initializers
    for report in reports:
        layout = report.layout
        if layout is None or report.name not in weights:
            continue
        begins = f"{report.name}."
        parts = {n.removeprefix(begins): _numbers(v) for n, v in stored.items() if n.startswith(begins)}
        rows = STORED[report.format].restore(parts, layout, grid)
        weights[report.name].const_value = ir.tensor(layout.from_rows(rows), name=report.name)
    return model


def _numbers(value: ir.Value) -> np.ndarray:
    return present(value.const_value).numpy()


def learning(pieces: Sequence[Piece]) -> dict[str, tuple[str, ...]]:
    """Names of inputs whose gradients belong together: the adapters of each segment, and the head."""
    groups = {piece.segment.name: tuple(piece.segment.adapters) for piece in pieces}
    groups |= {f"the head in {piece.segment.name}": tuple(piece.segment.head) for piece in pieces}
    return {what: names for what, names in groups.items() if names}


def reports_of(pieces: Iterable[Piece]) -> list[WeightReport]:
    """One report per weight, the last graph's of the first segment where several share one."""
    found: dict[str, WeightReport] = {}
    for piece in pieces:
        own = {report.name: report for reports in piece.reports.values() for report in reports}
        found = own | found
    return list(found.values())
