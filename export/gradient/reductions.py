"""Rules of sums, means, norms, extremes and products over axes, and of running sums."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from export.gradient.constants import constant_ints
from export.gradient.dims import dims_of, dtype_of, size_of
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


@rule("ReduceL1", inputs=(0,), check=_axes_problem)
def reduce_l1(t: Tape, c: Call) -> Products:
    """`y = sum(|x|)`: dx = g sign(x)."""
    return {0: lambda: t.mul(kept(t, c, c.g), t.unary("Sign", c.input(0)))}


@rule("ReduceSumSquare", inputs=(0,), check=_axes_problem)
def reduce_sum_square(t: Tape, c: Call) -> Products:
    """`y = sum(x x)`: dx = 2 g x."""
    return {0: lambda: t.mul(t.mul(kept(t, c, c.g), 2.0), c.input(0))}


@rule("ReduceLogSum", inputs=(0,), check=_axes_problem)
def reduce_log_sum(t: Tape, c: Call) -> Products:
    """`y = log sum(x)`: dx = g exp(-y) expanded to x."""
    return {0: lambda: t.expand(kept(t, c, t.mul(c.g, t.unary("Exp", t.neg(c.y)))), c.input(0))}


@rule("ReduceLogSumExp", inputs=(0,), check=_axes_problem)
def reduce_log_sum_exp(t: Tape, c: Call) -> Products:
    """`y = log sum(exp(x))`: dx = g exp(x - y)."""

    def product() -> ir.Value:
        return t.mul(kept(t, c, c.g), t.unary("Exp", t.sub(c.input(0), kept(t, c, c.y))))

    return {0: product}


@rule("ReduceMax", "ReduceMin", inputs=(0,), check=_axes_problem)
def reduce_extreme(t: Tape, c: Call) -> Products:
    """`y = max(x)`: dx = g where x = y, in equal parts where several are."""
    axes = present(reduced_axes(c.node))
    return {0: lambda: spread_evenly(t, c.input(0), kept(t, c, c.y), kept(t, c, c.g), axes)}


def spread_evenly(t: Tape, x: ir.Value, y: ir.Value, g: ir.Value, axes: Sequence[int]) -> ir.Value:
    """`g` where `x` equals `y`, divided by how many do along `axes`, which `y` and `g` hold as ones."""
    marks = t.cast(t.binary("Equal", x, y, ir.DataType.BOOL), dtype_of(x))
    return t.mul(marks, t.div(g, t.reduce_sum(marks, axes)))


@rule("ReduceProd", inputs=(0,), check=_axes_problem)
def reduce_prod(t: Tape, c: Call) -> Products:
    """`y = prod(x)`: dx = g times the product of all others; none is divided by zero.

    With p the product of what is not 0: p / x where nothing is 0, p at the only 0, else 0.
    """
    x, axes = c.input(0), present(reduced_axes(c.node))

    def product() -> ir.Value:
        zero = t.binary("Equal", x, 0.0, ir.DataType.BOOL)
        count = t.reduce_sum(t.cast(zero, dtype_of(x)), axes)
        safe = t.where(zero, 1.0, x)
        rest = t.reduce_prod(safe, axes)
        alone = t.where(t.binary("Equal", count, 1.0, ir.DataType.BOOL), rest, 0.0)
        none = t.where(t.binary("Equal", count, 0.0, ir.DataType.BOOL), rest, 0.0)
        return t.mul(kept(t, c, c.g), t.where(zero, alone, t.div(none, safe)))

    return {0: product}


@rule("CumSum", inputs=(0,))
def cumulative_sum(t: Tape, c: Call) -> Products:
    """`y_i = sum of x_j over j <= i` (`<` if exclusive): dx is the same sum of g from the other end."""
    flags = {"exclusive": c.int("exclusive", 0), "reverse": 1 - c.int("reverse", 0)}
    return {0: lambda: t.emit("CumSum", [c.g, c.input(1)], dims_of(c.g), dtype_of(c.g), flags)}
