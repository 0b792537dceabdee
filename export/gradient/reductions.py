"""Rules of sums, means and norms over axes."""

from __future__ import annotations

import onnx_ir as ir

from export.gradient.constants import constant_ints
from export.gradient.dims import dims_of, size_of
from export.gradient.present import present
from export.gradient.registry import Call, Products, rule
from export.gradient.tape import Tape


def reduced_axes(node: ir.Node) -> list[int] | None:
    """The axes of a reduction, non-negative and sorted (input or attribute, by opset); None if not constant."""
    rank = len(dims_of(present(node.inputs[0])))
    given = node.inputs[1] if len(node.inputs) > 1 else None
    axes = constant_ints(given) if given is not None else []
    if axes is None:
        return None
    if "axes" in node.attributes:
        axes = list(node.attributes["axes"].as_ints())
    noop = node.attributes.get("noop_with_empty_axes")
    if not axes and not (noop is not None and noop.as_int()):
        axes = list(range(rank))
    return sorted(axis % rank for axis in axes)


def _axes_problem(node: ir.Node) -> str | None:
    return "its axes are not constant" if reduced_axes(node) is None else None


def kept(t: Tape, c: Call, value: ir.Value) -> ir.Value:
    """An output-shaped `value` with the reduced axes as ones."""
    axes = present(reduced_axes(c.node))
    return value if c.int("keepdims", 1) or not axes else t.unsqueeze(value, axes)


@rule("ReduceSum", inputs=(0,), check=_axes_problem)
def reduce_sum(t: Tape, c: Call) -> Products:
    """`y = sum(x)`: dx = g expanded to x."""
    return {0: lambda: t.expand(kept(t, c, c.g), c.input(0))}


@rule("ReduceMean", inputs=(0,), check=_axes_problem)
def reduce_mean(t: Tape, c: Call) -> Products:
    """`y = sum(x) / n`: dx = g / n expanded to x."""
    dims = dims_of(c.input(0))
    n = size_of([dims[axis] for axis in present(reduced_axes(c.node))])
    return {0: lambda: t.expand(t.mul(kept(t, c, c.g), 1.0 / n), c.input(0))}


@rule("ReduceL2", inputs=(0,), check=_axes_problem)
def reduce_l2(t: Tape, c: Call) -> Products:
    """`y = sqrt(sum(x x))`: dx = x g / y, and 0 where y is 0 (an all-zero row has no direction)."""

    def product() -> ir.Value:
        zero = t.binary("Equal", c.y, 0.0, ir.DataType.BOOL)
        ratio = t.where(zero, 0.0, t.div(c.g, c.y))
        return t.mul(c.input(0), kept(t, c, ratio))

    return {0: product}
