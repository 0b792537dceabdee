"""Which format each weight of a model gets: what `--quant` and `--keep` say, and for a board what it has room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from console.errors import UnsupportedModel
from devices.formats import Layer, Option, kept
from devices.plan import Board, Decision, needs, with_budget
from devices.units import Unit
from devices.verdict import sentence
from export.apart import apart
from export.choice import sensitivity
from export.choice.within import (
    CANDIDATES,
    HASTE_BAR,
    LEVEL,
    Limits,
    Weighed,
    by_segment,
    products_of,
    smallest,
    spend,
    weighed,
)
from export.formats.grid import Grid
from export.formats.registry import ACTIVATIONS, AUTO, STORED
from export.formats.rewrite import Formats, Weight, decide, weights_of
from export.weight_cost import Stored, stored_as

if TYPE_CHECKING:
    from export.prepare import Prepared


def formats_of(prepared: Prepared, quant: str) -> Formats:
    """The formats that a board's `quant` stands for before anything is cut.

    Raises:
        UsageError: `--keep` names a layer that is not there, or a format that it cannot take.
        UnsupportedModel: a weight holds NaN or infinity.
    """
    hear(prepared)
    if quant == AUTO:
        return smallest(_weighed(prepared, prepared.batches[-1]), prepared.stock.grid)
    weights, grid = weights_of(prepared.frozen(prepared.batches[0])), prepared.stock.grid
    if not prepared.keep:
        _require_some(weights, quant, grid)
        return quant
    return with_kept(weights, quant, prepared.keep, grid)


def with_kept(weights: Sequence[Weight], quant: str, keep: Mapping[str, str], grid: Grid) -> dict[str, str]:
    """Formats by weight: one for all but those that `--keep` names.

    Raises:
        UsageError: it names a layer that is not there, or a format that the layer cannot take.
    """
    layers = []
    for weight in weights:
        layout = weight.layout
        own = [] if layout is None else [f for f, fmt in STORED.items() if not fmt.refuses(layout, grid)]
        layers.append(Layer(weight.name, tuple(Option(f, 0, 0.0) for f in ("fp32", *own))))
    asked = kept(layers, keep)
    return {
        now.name: now.options[0].format if now.options != before.options else quant
        for now, before in zip(asked, layers, strict=True)
    }


def _require_some(weights: Sequence[Weight], quant: str, grid: Grid) -> None:
    """Refuse a format that no weight can have.

    Raises:
        UnsupportedModel: all weights would stay in float32.
    """
    found = [decide(weight, quant, grid) for weight in weights]
    if quant != "fp32" and not any(fmt for fmt, _ in found):
        reasons = "; ".join(sorted({reason for _, reason in found})) or "it has no matrices"
        raise UnsupportedModel(
            f"expected weights that can be stored as {quant}, found none among {len(weights)} ({reasons}); export with "
            "--quant fp32"
        )


def spent(prepared: Prepared, board: Board, decision: Decision, span: tuple[int, int] | None = None) -> Decision:
    """A board's decision with formats that use the room it has, and what is predicted with them.

    Args:
        prepared: the model.
        board: asks for `auto`, or the decision is returned as it is but for formats that it was made with.
        decision: cuts for the smallest formats.
        span: the units of the board, where it runs some only.
    """
    if board.quant == "fp32" and not prepared.keep:
        return decision
    if board.quant != AUTO:
        given = formats_of(prepared, board.quant)
        formats = {} if isinstance(given, str) else dict(given)
        speeds = _speeds(prepared, board, decision.micro_batch, set(formats.values()) or {board.quant})
        return replace(decision, formats=formats, reasons=(*decision.reasons, speeds))
    first, stop = span or (0, len(prepared.cost(decision.micro_batch, board.mode).units))
    chosen = _chosen(prepared, board, decision, (first, stop))
    units = units_with(prepared, board, decision.micro_batch, chosen)
    ranked = replace(with_budget(board, board.budget_bytes), rank=decision.rank)
    after = needs(units, ranked, decision.cuts, decision.micro_batch, span=(first, stop))
    speeds = _speeds(prepared, board, decision.micro_batch, set(chosen.values()))
    reasons = (*decision.reasons, _said(prepared, decision.micro_batch, chosen), speeds)
    return replace(decision, predicted_bytes=tuple(n.total for n in after), reasons=reasons, formats=chosen)


def units_with(prepared: Prepared, board: Board, batch: int, formats: Mapping[str, str]) -> tuple[Unit, ...]:
    """The units of a model with weights in some formats, under the name of the board's `quant`."""
    numbers = prepared.cost(batch, board.mode)
    return numbers.with_stored(board.quant, _stored(prepared, batch, formats, board.mode)) if formats else numbers.units


def _chosen(prepared: Prepared, board: Board, decision: Decision, span: tuple[int, int]) -> dict[str, str]:
    """Segment by segment; a weight that several read has the format of the first."""
    batch, grid = decision.micro_batch, prepared.stock.grid
    numbers, small = prepared.cost(batch, board.mode), formats_of(prepared, AUTO)
    smallest_stored = _stored(prepared, batch, small if isinstance(small, dict) else {}, board.mode)
    least = {name: one.bytes for name, one in smallest_stored.items()}
    ranked = replace(with_budget(board, board.budget_bytes), rank=decision.rank)
    taken = needs(numbers.units, ranked, decision.cuts, batch, span=span)
    weights, chosen = _weighed(prepared, batch), dict[str, str]()
    for need, own in zip(taken, by_segment(numbers.readers, decision.cuts, span), strict=True):
        here = [w for w in weights if w.name in own]
        least_bytes = sum(least.get(w.name, numbers.plain_bytes[w.name]) for w in here)
        room = max(least_bytes, board.budget_bytes - need.total + least_bytes)
        limits = Limits(room, least_bytes, HASTE_BAR * len(here) / max(1, len(weights)))
        chosen |= spend(here, grid, board.cpu, limits, chosen, written=board.mode == "train")
    return chosen


def hear(prepared: Prepared) -> None:
    """Find out what layers are fed where scales are chosen by it (`--scales gptq`), in a process of its own."""
    if prepared.stock.grid.scales != "gptq" or prepared.stock.inputs:
        return
    with TemporaryDirectory(prefix=".heard-", dir=prepared.work) as folder:
        apart(lambda: sensitivity.listen(prepared, Path(folder)))
        with np.load(Path(folder) / sensitivity.HEARD) as file:
            prepared.stock.inputs = {name: file[name] for name in file.files}


def _weighed(prepared: Prepared, batch: int) -> list[Weighed]:
    """The weights with the errors of the formats that `auto` may give them, or of the one that is kept."""
    found = weighed(prepared.frozen(batch), _measured(prepared))
    layers = [Layer(w.name, tuple(Option(f, 0, 0.0) for f in w.errors)) for w in found]
    fixed = kept(layers, prepared.keep) if prepared.keep else layers
    out = []
    for w, now, before in zip(found, fixed, layers, strict=True):
        free = now.options == before.options
        allowed = ("fp32", *CANDIDATES) if free else (now.options[0].format,)
        out.append(replace(w, errors={f: e for f, e in w.errors.items() if f in allowed}))
    return out


def _measured(prepared: Prepared) -> Mapping[str, Mapping[str, float]]:
    """Errors by weight and format, measured once, in a process of its own."""
    if prepared.errors is None:
        formats = [f for f in STORED if f in {*CANDIDATES, *prepared.keep.values()}]
        with TemporaryDirectory(prefix=".probe-", dir=prepared.work) as folder:
            prepared.errors = apart(lambda: sensitivity.measure(prepared, formats, Path(folder)))
    return prepared.errors


def _stored(prepared: Prepared, batch: int, formats: Mapping[str, str], mode: str) -> dict[str, Stored]:
    """How weights that are not in float32 are stored."""
    layouts = {w.name: w.layout for w in weights_of(prepared.frozen(batch)) if w.layout is not None}
    return {
        name: stored_as(STORED[fmt], layouts[name], prepared.stock.grid, mode)
        for name, fmt in formats.items()
        if fmt != "fp32" and name in layouts
    }


def _said(prepared: Prepared, batch: int, formats: Mapping[str, str]) -> str:
    """The choice, as a sentence."""
    errors = {w.name: w.errors for w in _weighed(prepared, batch)}
    total = sum(errors[name][fmt] for name, fmt in formats.items())
    counts = Counter(formats.values())
    what = ", ".join(f"{counts[f]} in {f}" for f in ("fp32", *STORED) if f in counts)
    return f"formats chosen: weights {what}; predicted relative error of the outputs {total**0.5:.2g}"


def _speeds(prepared: Prepared, board: Board, batch: int, formats: set[str]) -> str:
    """What the formats buy on a board, at the rows that most of its products have."""
    rows = Counter(products_of(prepared.frozen(batch))).most_common(1)
    if not rows:
        return f"formats on {board.name}: no products"
    told = [sentence(f, rows[0][0], board.cpu, LEVEL) for f in (*STORED, *ACTIVATIONS) if f in formats]
    return f"formats on {board.name}: {', '.join(told) or 'fp32'}"
