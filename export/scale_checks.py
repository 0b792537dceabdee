"""Graphs whose scales can be moved, held against numpy: unmoved they are the forward graph, moved its moved twin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from console.errors import UsageError
from export.build import Piece
from export.chain import Chain, Graph, Values
from export.formats.grid import Grid
from export.scales import moved
from export.verify import check_same, check_twins
from export.write import write_graphs

if TYPE_CHECKING:  # it asks this module
    from export.stage import Stage

MOVED, SEED = 0.1, 41  # scales are moved by up to so much of themselves


def refuse_no_scales(pieces: Sequence[Piece]) -> None:
    """There must be something to move.

    Raises:
        UsageError: no weight of a product or a convolution has scales.
    """
    if not any(piece.scales for piece in pieces):
        raise UsageError(
            "expected weights with scales in 32 bits for --scale-inputs, found none; export with --quant int4, nf4 or "
            "int8, and without --nested-scales"
        )


def ones(pieces: Sequence[Piece]) -> dict[str, NDArray[np.float32]]:
    """A factor of 1 for every single scale, by graph input: the most that can be fed."""
    return {scales.input: np.ones(scales.shape, np.float32) for piece in pieces for scales in piece.scales}


def drawn(pieces: Sequence[Piece], *, rows: bool = False) -> dict[str, NDArray[np.float32]]:
    """Factors that are not 1, by graph input: one for each scale, or one for each of their rows."""
    generator = np.random.default_rng(SEED)
    out = {}
    for one in sorted(ones(pieces).items()):
        shape = (*one[1].shape[:1], *[1] * (one[1].ndim - 1)) if rows else one[1].shape
        out[one[0]] = generator.uniform(1 - MOVED, 1 + MOVED, shape).astype(np.float32)
    return out


def check_scales(stage: Stage, chain: Chain, given: Values, grid: Grid) -> dict[str, Any]:
    """What feeding factors makes of a stage's segments, each fed what the forward chain made.

    Args:
        stage: written, with its final options.
        chain: its forward graphs.
        given: what the chain is fed.
        grid: settings of the formats.

    Returns:
        The largest differences: `scales_error` with nothing moved, `moved_scales_error` from restored weights.

    Raises:
        VerificationError: they differ.
    """
    if not any(piece.scales for piece in stage.pieces):
        return {}
    values, still, worst = chain.forward(given), 0.0, 0.0
    for piece, link in zip(stage.pieces[: stage.own], stage.links[: stage.own], strict=True):
        if link.scales is None:
            continue
        graph = chain.graph(link.scales, link.scales_options)
        for name, value in graph(values).items():
            still = max(still, check_same(value, values[name], f"{name} of {link.scales.stem} with nothing moved"))
        for factors in (drawn([piece]), drawn([piece], rows=True)):
            twin = _twin(piece, factors, grid, stage.folder)
            formats = {report.format for report in piece.reports["scales"]}
            what = f"{link.scales.stem} with moved scales"
            worst = max(worst, check_twins(graph, twin, {**values, **factors}, what, formats))
    return {"scales_error": still, "moved_scales_error": worst}


def _twin(piece: Piece, factors: Values, grid: Grid, folder: Path) -> Graph:
    by_weight = {scales.weight: factors[scales.input] for scales in piece.scales}
    model = moved(piece.exact["forward"], piece.shipped["forward"], piece.reports["forward"], grid, by_weight)
    write_graphs({"moved": model}, folder, "moved.weights.bin")
    graph = Graph(folder / "moved.onnx")
    for name in ("moved.onnx", "moved.weights.bin"):
        (folder / name).unlink()
    return graph
