"""Rules of elementwise arithmetic with broadcasting."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx_ir as ir

from export.gradient.constants import constant_array
from export.gradient.dims import dtype_of
from export.gradient.present import present
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


@rule("Cast")
def cast(t: Tape, c: Call) -> Products:
    """`y = x` in another floating type: dx = g in the type of x. Casts to other types end a path."""
    return {0: lambda: t.cast(c.g, dtype_of(c.input(0)))}


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


def _exponent(node: ir.Node) -> float | None:
    array = constant_array(node.inputs[1])
    return None if array is None or array.size != 1 else float(np.asarray(array, np.float64).reshape(()))


def _constant_exponent(node: ir.Node) -> str | None:
    return None if _exponent(node) is not None else "its exponent is not one constant number"


@rule("Pow", inputs=(0,), check=_constant_exponent)
def power(t: Tape, c: Call) -> Products:
    """`y = x^c`: dx = g c x^(c-1); x^2 and x^3 by products, because Pow is slow."""
    x, n = c.input(0), present(_exponent(c.node))

    def product() -> ir.Value:
        if n == 1.0:
            return c.g
        if n == 2.0:
            return t.mul(t.mul(x, n), c.g)
        if n == 3.0:
            return t.mul(t.mul(t.mul(x, x), n), c.g)
        return t.mul(t.mul(t.binary("Pow", x, n - 1.0), n), c.g)

    return {0: product}


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
