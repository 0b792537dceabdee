"""Segments as finished graphs: differentiated, quantized, in execution order, and their exact twins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel
from export.cut import Segment, cut
from export.gradient.backward import LossSpec, build_backward
from export.gradient.present import present
from export.order import order_just_in_time
from export.quantize import Cache, WeightReport, quantize_weights
from export.strip import has_slots, strip_slots


@dataclass(frozen=True)
class Piece:
    """A segment with its graphs by kind: `exact` in float32, `shipped` as the board gets them."""

    segment: Segment
    exact: dict[str, ir.Model]
    shipped: dict[str, ir.Model]
    reports: tuple[WeightReport, ...]


def build(
    frozen: ir.Model, positions: Sequence[int], mode: str, quant: str | Sequence[str], cache: Cache, serve: bool = False
) -> list[Piece]:
    """Cut a frozen model and finish every graph of every segment.

    Args:
        frozen: the forward model with slots and head; left as it is.
        positions: node positions of the cuts.
        mode: "train" adds a backward graph to every segment at or after the first slot.
        quant: format of the weights, for all segments or one per segment.
        cache: shared by all graphs of the model.
        serve: add a graph without slots to every segment that has some.

    Raises:
        NoGradientRule: mode "train", and an operator cannot be differentiated.
    """
    segments = cut(frozen, positions)
    formats = [quant] * len(segments) if isinstance(quant, str) else quant
    return [
        _piece(_exact(segment, segment is segments[-1], mode, serve), segment, own, cache)
        for segment, own in zip(segments, formats, strict=True)
    ]


def _exact(segment: Segment, last: bool, mode: str, serve: bool) -> dict[str, ir.Model]:
    exact = {"forward": segment.model}
    if mode == "train" and segment.wanted:
        exact["backward"] = build_backward(segment.model, wanted=segment.wanted, loss=LossSpec() if last else None)
    if serve and has_slots(segment.model):
        with suppress(UnsupportedModel):  # a cut through a slot: this segment keeps its forward graph
            exact["serve"] = strip_slots(segment.model)
    return exact


def _piece(exact: dict[str, ir.Model], segment: Segment, quant: str, cache: Cache) -> Piece:
    shipped = {kind: model.clone() for kind, model in exact.items()}
    reports: dict[str, WeightReport] = {}
    for model in shipped.values():
        reports |= {report.name: report for report in quantize_weights(model, quant, cache)}
        order_just_in_time(model)
    return Piece(segment, exact, shipped, tuple(reports.values()))


def twin(exact: ir.Model, shipped: ir.Model) -> ir.Model:
    """`exact` with the weights that `shipped` has, dequantized by numpy: what it must compute.

    Matrices are stored as [out, in] beside scales [out], tables as [rows, columns] beside scales [rows, 1].
    """
    model = exact.clone()
    stored = shipped.graph.initializers
    for name, weight in model.graph.initializers.items():
        if f"{name}.q" not in stored or weight.const_value is None:
            continue
        q, s = (_numbers(stored[f"{name}.{part}"]) for part in "qs")
        rows = q.astype(np.float32) * (s if s.ndim == 2 else s[:, None])
        plain = rows if s.ndim == 2 else np.ascontiguousarray(rows.T)
        weight.const_value = ir.tensor(plain, name=name)
    return model


def _numbers(value: ir.Value) -> np.ndarray:
    return present(value.const_value).numpy()


def reports_of(pieces: Iterable[Piece]) -> list[WeightReport]:
    """One report per weight, the first where segments share one."""
    found: dict[str, WeightReport] = {}
    for piece in pieces:
        for report in piece.reports:
            found.setdefault(report.name, report)
    return list(found.values())
