"""What a user gives to calibrate with, and what becomes of it for the graphs of one plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import UnsupportedModel, UsageError
from export import feeds
from export.activations.calibrate import choose, required, runs_of
from export.activations.methods import Method
from export.activations.tools import Run
from export.formats.registry import ACTIVATIONS
from export.gradient.dims import shape_of
from export.pictures import opened
from export.study.data import Items, read_items

if TYPE_CHECKING:
    from export.activations.graphs import Activations
    from export.build import Piece
    from export.formats.rewrite import Formats
    from export.prepare import Prepared

STATIC = "int8-static"
CANDIDATES = 512  # of a file; the graph is run over all of them to choose
ITEMS = 32  # that are chosen


@dataclass(frozen=True)
class Calibration:
    """Items of a file, and how ranges follow from what the graph makes of them."""

    items: Items
    method: Method = "minmax"


def read_calibration(path: Path | None, method: Method | None = None) -> Calibration | None:
    """What `--calibration` and `--calibration-method` name.

    Raises:
        UsageError, StorageError, BadData: the file cannot be used.
    """
    return None if path is None else Calibration(read_items(path, "--calibration"), method or "minmax")


def activations_for(
    prepared: Prepared, formats: Iterable[Formats], batch: int, seven_bits: bool, folder: Path
) -> Activations | None:
    """What the tools need for a plan; None where no weight is to be multiplied with integer activations.

    Raises:
        UsageError: "int8-static" without items, or of a model that is run in steps.
        BadData: the items do not fit the model.
    """
    from export.activations.graphs import Activations

    asked = {fmt for each in formats for fmt in ([each] if isinstance(each, str) else each.values())}
    if not asked & {*ACTIVATIONS}:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    given = prepared.calibration
    if given is None and STATIC in asked:
        raise UsageError(f"expected --calibration FILE beside --quant {STATIC}, found none; or take int8-dynamic")
    runs = _samples(prepared, batch) if given is None else _runs(prepared, prepared.whole(batch), given.items)
    # tables that are out of the graph: their rows are what it is fed
    tables = prepared.taken(batch).exact()
    inputs = {name: shape_of(value) or () for name, value in required(prepared.frozen(batch)).items()}
    runs = [{**run, **tables.complete(run, inputs)} for run in runs]
    return Activations(folder, runs, "minmax" if given is None else given.method, seven_bits)


def calibration_runs(prepared: Prepared, batch: int) -> list[Run] | None:
    """Runs of the items that a user gave, as many as are chosen of them; None where nobody gave any.

    Raises:
        UsageError: the model is run in steps, or reads no texts.
        BadData: the items do not fit the model.
    """
    return None if prepared.calibration is None else _runs(prepared, prepared.whole(batch), prepared.calibration.items)


def _samples(prepared: Prepared, batch: int) -> list[Run]:
    """What is verified with; of a model that is run in steps the first, which begins with states of zeros."""
    runs = prepared.samples(batch, None)
    return [{**run, **prepared.states(batch)} for run in (runs[:1] if prepared.captured.states else runs)]


def _runs(prepared: Prepared, whole: ir.Model, items: Items) -> list[Run]:
    captured = prepared.captured
    if captured.states or captured.samples is not None:
        raise UsageError(
            f"expected no --calibration for {captured.name}, whose runs depend on those before them, found a file; "
            "take --quant int8-dynamic or int8 without one"
        )
    items = items.spread(CANDIDATES)
    given = opened(items.pictures, captured) if items.pictures else items.arrays
    found = _encoded(prepared, whole, items.texts) if items.texts else given
    return runs_of(whole, found, choose(whole, found, ITEMS))


def _encoded(prepared: Prepared, whole: ir.Model, texts: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    preprocess, sequence = prepared.captured.preprocess, prepared.sequence
    if sequence is None or not preprocess.files:
        raise UsageError(
            f"expected --calibration as .npz with an array per input for {prepared.captured.name}, which has no "
            "tokenizer, found texts"
        )
    made = feeds.encoded(texts, sequence, preprocess)
    read = required(whole)
    types = {name: np.int64 if value.dtype is None else value.dtype.numpy() for name, value in read.items()}
    return {name: array.astype(types[name]) for name, array in made.items() if name in read}


def refuse_none(pieces: Iterable[Piece]) -> None:
    """Refuse an export that asks for integer activations and has them nowhere.

    Raises:
        UnsupportedModel: every graph has slots, or no weight could be taken.
    """
    reports = [report for piece in pieces for each in piece.reports.values() for report in each]
    if not any(report.format in ACTIVATIONS for report in reports):
        reasons = sorted({report.reason for report in reports if report.reason})
        raise UnsupportedModel(
            f"expected a graph without slots with a layer for {' or '.join(ACTIVATIONS)}, found none "
            f"({'; '.join(reasons[:3]) or 'no weights'}); leave --no-serve-graph out, or take --quant int8"
        )
