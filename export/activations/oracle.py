"""Every product of integers in a graph against numpy, node by node, on what the runtime itself fed it.

A node is asked for its input and its output while the graph runs as boards run it; numpy computes the output from
the input (`export.activations.integers`). Sums of integers must be exact. Where a float is rounded to a step and lies
within 1e-4 of the middle between two, either is right: an input there may move the sum by its weight, an output by
one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import VerificationError
from export.activations.fuse import entry
from export.activations.integers import multiply, quantize, quantize_dynamic, some, ties
from export.activations.products import Product, products, roundings, steps_at
from export.activations.saturation import saturates
from export.chain import PLAIN, Graph
from export.write import write_graphs

Array = NDArray[Any]
Level = Literal["disable", "basic", "extended", "all"]

# a sum comes back from float32, where two scales were multiplied to it: 4 roundings of 2^-24
ROUNDINGS = 4 * 2.0**-24
EXACT = 1e-3  # of a step; what is nearer to an integer is that integer


def check(model: ir.Model | Path, feeds: Mapping[str, Array], level: Level = "disable") -> float:
    """Run a graph on this machine and compare all its products of integers, and what is rounded to feed them.

    Args:
        model: a graph as `dynamic` or `static` makes it, or the file of one; it is left as it is.
        feeds: values for its inputs.
        level: graph optimization; boards run graphs as they are written.

    Returns:
        The largest difference that was found, in steps of what was compared; 0.5 or less unless at ties.

    Raises:
        VerificationError: an output is another one, or nothing in the graph is quantized.
    """
    graph = (ir.load(model) if isinstance(model, Path) else model.clone()).graph
    found, inner = list(products(graph)), roundings(graph)
    if not found:
        raise VerificationError("expected products of integers in the graph, found none; quantize it first")
    wanted = [value for product in found for value in (product.x, product.y)]
    wanted += [value for node in inner for value in (entry(node, 0), node.outputs[0])]
    values = _fetched(graph, wanted, feeds, level)
    worst = 0.0
    for node in inner:
        worst = max(worst, _check_rounding(node, values))
    for product in found:
        worst = max(worst, check_product(product, values))
    return worst


def _fetched(graph: ir.Graph, wanted: Sequence[ir.Value], feeds: Mapping[str, Array], level: Level) -> dict[str, Array]:
    """What the runtime computes of some values of a graph, which becomes one that returns them."""
    known = {id(value) for value in (*graph.inputs, *graph.outputs)}
    for value in wanted:
        if id(value) not in known:
            known.add(id(value))
            graph.outputs.append(value)
    with TemporaryDirectory() as folder:
        write_graphs({"asked": ir.Model(graph, ir_version=10)}, Path(folder), "asked.bin")
        run = Graph(Path(folder) / "asked.onnx", replace(PLAIN, graph_optimization=level))
    return {**feeds, **run(feeds)}


def _check_rounding(node: ir.Node, values: Mapping[str, Array]) -> float:
    if node.op_type == "DequantizeLinear":
        scale, zero_point = steps_at(node, 1, 2)
        steps = values[str(entry(node, 0).name)].astype(np.float64) - zero_point
        return _check_sums(node, values[str(node.outputs[0].name)] / np.float64(scale), steps, np.zeros(()))
    wanted = quantize(values[str(entry(node, 0).name)], *steps_at(node, 1, 2))
    found = values[str(node.outputs[0].name)].astype(np.int64)
    return _compare(node, found, wanted.q.astype(np.int64), wanted.tie)


def check_product(product: Product, values: Mapping[str, Array]) -> float:
    """One product against what a run had of its input and its output, by name; the largest difference in steps.

    Of many rows or items some are looked at.

    Raises:
        VerificationError: the output is another one.
    """
    x, y = values[str(product.x.name)], some(values[str(product.y.name)], product.window)
    if product.x_steps is None:
        rounded_x = quantize_dynamic(x)
        q, tie = (some(array, product.window) for array in (rounded_x.q, rounded_x.tie))
        summed = multiply(q.astype(np.int64) - rounded_x.zero_point, product.w, product.window)
        spare = multiply(tie.astype(np.int64), np.abs(product.w), product.window)
        return _check_floats(product, y, summed, rounded_x.scale, spare)
    scale, zero_point = product.x_steps
    summed = multiply(some(x, product.window).astype(np.int64) - zero_point, product.w, product.window)
    if product.y_steps is None:
        return _check_floats(product, y, summed, scale, np.zeros(()))
    if product.bias is not None:
        summed += _along(product.bias, product, summed.ndim)
    steps = np.float64(scale) * _along(product.scale, product, summed.ndim)
    y_scale, y_zero = product.y_steps
    rounded = summed * (steps / np.float64(y_scale))
    wanted = np.clip(np.rint(rounded) + y_zero, 0, 255)
    return _compare(product.node, y.astype(np.int64), wanted, ties(rounded))


def _check_floats(product: Product, y: Array, summed: Array, x_scale: np.float32, spare: Array) -> float:
    """Sums that come back as floats, some with a bias, which costs them digits where it is large."""
    steps = np.float64(x_scale) * _along(product.scale, product, summed.ndim)
    bias = np.zeros(()) if product.bias is None else product.bias.astype(np.float64)
    found = (y.astype(np.float64) - bias) / steps
    return _check_sums(product.node, found, summed, spare + ROUNDINGS * np.abs(bias / steps))


def _along(of_channels: Array, product: Product, rank: int) -> NDArray[np.float64]:
    """A number for every output channel, as it meets the output: the last axis of a product, axis 1 of pixels."""
    numbers = of_channels.astype(np.float64)
    if numbers.size <= 1 or product.window is None:
        return numbers.reshape(()) if numbers.size == 1 else numbers
    return numbers.reshape([-1 if axis == 1 else 1 for axis in range(rank)])


def _check_sums(node: ir.Node, found: Array, wanted: Array, spare: Array) -> float:
    """Sums that came back as floats: the same integers, but for rounding and for what ties may move."""
    _same_shape(node, found, wanted)
    difference = np.abs(found - wanted)
    allowed = spare + EXACT + ROUNDINGS * np.abs(wanted)
    _refuse(node, found, wanted, difference > allowed)
    return float(difference.max(initial=0.0))


def _compare(node: ir.Node, found: Array, wanted: Array, tie: Array) -> float:
    """Steps: the same, or one aside at a tie."""
    _same_shape(node, found, wanted)
    difference = np.abs(found - wanted)
    _refuse(node, found, wanted, difference > tie.astype(np.int64))
    return float(difference.max(initial=0))


def _same_shape(node: ir.Node, found: Array, wanted: Array) -> None:
    if found.shape != wanted.shape:
        raise VerificationError(f"expected {node.name} to make the shape {wanted.shape}, found {found.shape}")


def _refuse(node: ir.Node, found: Array, wanted: Array, wrong: NDArray[np.bool_]) -> None:
    if not wrong.any():
        return
    first = tuple(int(k) for k in np.argwhere(wrong)[0])
    why = "report this model, and do not use what was exported"
    if saturates():
        why = "this processor cuts off large products of eight bits: take one with VNNI or Arm, or --quant int8"
    raise VerificationError(
        f"expected {node.name} to compute {wanted[first]:.10g}, found {found[first]:.10g} "
        f"({int(wrong.sum())} of {wrong.size} differ); {why}"
    )
