"""Rules of elementwise arithmetic with broadcasting."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import onnx_ir as ir

from export.gradient.constants import constant_array
from export.gradient.dims import dtype_of
from export.gradient.registry import Call, Products, rule
from export.gradient.tape import Tape


@rule("Add")
def add(t: Tape, c: Call) -> Products:
    """`y = a + b`: da = red(g, a), db = red(g, b)."""
    return {0: lambda: t.red(c.g, c.input(0)), 1: lambda: t.red(c.g, c.input(1))}


@rule("Sub")
def sub(t: Tape, c: Call) -> Products:
    """`y = a - b`: da = red(g, a), db = -red(g, b)."""
    return {0: lambda: t.red(c.g, c.input(0)), 1: lambda: t.neg(t.red(c.g, c.input(1)))}


@rule("Mul")
def mul(t: Tape, c: Call) -> Products:
    """`y = a b`: da = red(g b, a), db = red(g a, b)."""
    a, b = c.input(0), c.input(1)
    return {0: lambda: t.red(t.mul(c.g, b), a), 1: lambda: t.red(t.mul(c.g, a), b)}


@rule("Div")
def div(t: Tape, c: Call) -> Products:
    """`y = a / b, q = g / b`: da = red(q, a), db = -red(q y, b)."""
    a, b = c.input(0), c.input(1)
    q = cache(lambda: t.div(c.g, b))
    return {0: lambda: t.red(q(), a), 1: lambda: t.neg(t.red(t.mul(q(), c.y), b))}


@rule("Neg")
def neg(t: Tape, c: Call) -> Products:
    """`y = -x`: dx = -g."""
    return {0: lambda: t.neg(c.g)}


@rule("Where", inputs=(1, 2))
def where(t: Tape, c: Call) -> Products:
    """`y = a where c else b`: da = red(g where c else 0, a), db = red(0 where c else g, b)."""
    condition = c.input(0)
    return {
        1: lambda: t.red(t.where(condition, c.g, 0.0), c.input(1)),
        2: lambda: t.red(t.where(condition, 0.0, c.g), c.input(2)),
    }


@rule("Cast", "CastLike", inputs=(0,))
def cast(t: Tape, c: Call) -> Products:
    """`y = x` in another floating type: dx = g in the type of x. Casts to other types end a path."""
    return {0: lambda: t.cast(c.g, dtype_of(c.input(0)))}


@rule("Mod")
def mod(t: Tape, c: Call) -> Products:
    """`y = a - b q` with whole numbers q: da = red(g, a), db = -red(g (a - y) / b, b)."""
    a, b = c.input(0), c.input(1)
    return {
        0: lambda: t.red(c.g, a),
        1: lambda: t.red(t.neg(t.mul(c.g, t.div(t.sub(a, c.y), b))), b),
    }


@rule("Clip", inputs=(0,))
def clip(t: Tape, c: Call) -> Products:
    """`y = min(max(x, lo), hi)`: dx = g where lo <= x and x <= hi, else 0."""
    x, low, high = c.input(0), c.optional(1), c.optional(2)

    def product() -> ir.Value:
        g = c.g
        if low is not None:
            g = t.where(t.binary("GreaterOrEqual", x, low, ir.DataType.BOOL), g, 0.0)
        if high is not None:
            g = t.where(t.binary("LessOrEqual", x, high, ir.DataType.BOOL), g, 0.0)
        return g

    return {0: product}


@rule("Pow")
def power(t: Tape, c: Call) -> Products:
    """`y = a^b`: da = red(g b a^(b-1), a), db = red(g y log a, b), and 0 where a <= 0.

    Of one constant exponent, 1, 2 and 3 go by products, because Pow is slow.
    """
    a, b = c.input(0), c.input(1)

    def base() -> ir.Value:
        n = _exponent(c.node)
        if n is not None:
            return t.red(_power_slope(t, c.g, a, n), a)
        exponent = t.cast(b, dtype_of(a))
        slope = t.mul(exponent, t.binary("Pow", a, t.sub(exponent, 1.0)))
        # a^0 is flat everywhere, at a = 0 too, where 0 times infinity would be NaN
        return t.red(t.mul(c.g, t.where(t.binary("Equal", exponent, 0.0, ir.DataType.BOOL), 0.0, slope)), a)

    def exponent() -> ir.Value:
        positive = t.binary("Greater", a, 0.0, ir.DataType.BOOL)
        return t.red(t.mul(t.mul(c.g, c.y), t.unary("Log", t.where(positive, a, 1.0))), b)

    return {0: base, 1: exponent}


def _exponent(node: ir.Node) -> float | None:
    array = constant_array(node.inputs[1])
    return None if array is None or array.size != 1 else float(np.asarray(array, np.float64).reshape(()))


def _power_slope(t: Tape, g: ir.Value, x: ir.Value, n: float) -> ir.Value:
    """`g n x^(n-1)`."""
    if n == 0.0:
        return t.mul(g, 0.0)
    if n == 1.0:
        return g
    if n == 2.0:
        return t.mul(t.mul(x, n), g)
    if n == 3.0:
        return t.mul(t.mul(t.mul(x, x), n), g)
    return t.mul(t.mul(t.binary("Pow", x, n - 1.0), n), g)


@rule("Max", "Min")
def extreme(t: Tape, c: Call) -> Products:
    """`y = max(a, b, ...)`: da = red(g where a = y, a), in equal parts where several inputs are y."""
    if len(c.node.inputs) == 1:
        return {0: lambda: c.g}

    @cache
    def marks() -> list[ir.Value]:
        inputs = [c.input(i) for i in range(len(c.node.inputs))]
        return [t.cast(t.binary("Equal", a, c.y, ir.DataType.BOOL), dtype_of(c.y)) for a in inputs]

    @cache
    def share() -> ir.Value:
        total = marks()[0]
        for mark in marks()[1:]:
            total = t.add(total, mark)
        return t.div(c.g, total)

    def product(i: int) -> ir.Value:
        return t.red(t.mul(share(), marks()[i]), c.input(i))

    return {i: partial(product, i) for i in range(len(c.node.inputs))}


@rule("Sum", "Mean")
def total(t: Tape, c: Call) -> Products:
    """`y = a + b + ...`, or that over their number n: da = red(g, a), or red(g, a) / n."""
    factor = 1.0 / len(c.node.inputs) if c.node.op_type == "Mean" else 1.0

    def product(i: int) -> ir.Value:
        summed = t.red(c.g, c.input(i))
        return summed if factor == 1.0 else t.mul(summed, factor)

    return {i: partial(product, i) for i in range(len(c.node.inputs))}


@rule("Abs")
def absolute(t: Tape, c: Call) -> Products:
    """`y = |x|`: dx = g sign(x)."""
    return {0: lambda: t.mul(c.g, t.unary("Sign", c.input(0)))}


@rule("Sqrt")
def sqrt(t: Tape, c: Call) -> Products:
    """`y = x^(1/2)`: dx = 0.5 g / y."""
    return {0: lambda: t.div(t.mul(c.g, 0.5), c.y)}


@rule("Reciprocal")
def reciprocal(t: Tape, c: Call) -> Products:
    """`y = 1 / x`: dx = -g y y."""
    return {0: lambda: t.neg(t.mul(c.g, t.mul(c.y, c.y)))}


@rule("Exp")
def exp(t: Tape, c: Call) -> Products:
    """`y = e^x`: dx = g y."""
    return {0: lambda: t.mul(c.g, c.y)}


@rule("Log")
def log(t: Tape, c: Call) -> Products:
    """`y = log x`: dx = g / x."""
    return {0: lambda: t.div(c.g, c.input(0))}
