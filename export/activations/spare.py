"""Layers that rounding of their input would cost too much: they keep float activations.

A tensor has one scale, so a few large numbers in it (a channel of LayerNorm, the first token) leave few steps for all
others. What that costs a layer is seen at its output: |(x' - x) W| / |x W| with x' the rounded input. Measured on
all-MiniLM-L6-v2: six of 36 layers are between 4 and 6 %, five of them the first half of the feed-forward block; with
them in float the least cosine of a sentence's features rises from 0.964 to 0.987, the accuracy of a head not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.activations.calibrate import loaded
from export.activations.fuse import entry
from export.activations.integers import Quantized, multiply, quantize, quantize_dynamic, range_of, some
from export.activations.products import window_at
from export.activations.tools import Run
from export.gradient.present import present

Array = NDArray[Any]

MOST = 0.1  # of an output's length; what costs less buys more time than it loses accuracy


def lost(model: ir.Model, names: Collection[str], runs: Sequence[Run], work: Path, *, fixed: bool) -> dict[str, float]:
    """What rounding of their inputs costs the layers that read some weights: relative, by the weight's name.

    Args:
        model: the float graph; left as it is.
        names: of weights that MatMul or Conv read; others are left out.
        runs: feeds.
        work: a folder for files; nothing is left in it.
        fixed: one scale for all runs, else one for each.
    """
    listening = model.clone()
    layers = list(_layers(listening.graph, names))
    for x in {id(x): x for _, _, x in layers}.values():
        if not x.is_graph_input() and not x.is_graph_output():
            listening.graph.outputs.append(x)
    with TemporaryDirectory(dir=work) as folder:
        graph = loaded(listening, Path(folder))
    ranges: dict[str, list[Array]] = {}
    for run in runs if fixed else ():
        for name, value in _inputs(layers, {**run, **graph(run)}).items():
            ranges.setdefault(name, []).extend((value.min(initial=0), value.max(initial=0)))
    noise, signal = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for run in runs:
        values = _inputs(layers, {**run, **graph(run)})
        rounded = {name: _rounded(value, ranges.get(name)) for name, value in values.items()}
        for name, node, x in layers:
            mask = run.get("attention_mask")
            w, exact = present(entry(node, 1).const_value).numpy(), values[str(x.name)]
            change, made = (_length(node, part, w, mask) for part in (rounded[str(x.name)] - exact, exact))
            noise[name] += change
            signal[name] += made
    return {name: float(np.sqrt(noise[name] / signal[name])) for name in names if signal[name]}


def _layers(graph: ir.Graph, names: Collection[str]) -> Iterator[tuple[str, ir.Node, ir.Value]]:
    for name in names:
        for use in graph.initializers[name].uses():
            if use.idx == 1 and use.node.op_type in {"MatMul", "Conv"} and not use.node.domain:
                yield name, use.node, entry(use.node, 0)


def _inputs(layers: Sequence[tuple[str, ir.Node, ir.Value]], values: Mapping[str, Array]) -> dict[str, Array]:
    return {str(x.name): values[str(x.name)] for _, _, x in layers}


def _rounded(x: Array, seen: Sequence[Array] | None) -> Array:
    """x as it comes back from uint8."""
    q: Quantized = quantize_dynamic(x) if seen is None else quantize(x, *range_of(min(seen), max(seen)))
    return np.asarray((q.q.astype(np.float64) - q.zero_point) * np.float64(q.scale))


def _length(node: ir.Node, x: Array, w: Array, mask: Array | None) -> float:
    """|x W|^2; tokens that only fill up do not count."""
    window = window_at(node) if node.op_type == "Conv" else None
    if window is None and mask is not None and x.ndim == 3 and x.shape[:2] == mask.shape:
        x = x[mask > 0]
    y = multiply(some(x, window), w, window)
    return float(np.vdot(y, y))
