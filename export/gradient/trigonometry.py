"""Rules of trigonometric and hyperbolic functions."""

from __future__ import annotations

import onnx_ir as ir

from export.gradient.registry import Call, Products, rule
from export.gradient.tape import Tape


@rule("Sin")
def sine(t: Tape, c: Call) -> Products:
    """`y = sin x`: dx = g cos x."""
    return {0: lambda: t.mul(c.g, t.unary("Cos", c.input(0)))}


@rule("Cos")
def cosine(t: Tape, c: Call) -> Products:
    """`y = cos x`: dx = -g sin x."""
    return {0: lambda: t.neg(t.mul(c.g, t.unary("Sin", c.input(0))))}


@rule("Tan")
def tangent(t: Tape, c: Call) -> Products:
    """`y = tan x`: dx = g (1 + y y)."""
    return {0: lambda: t.mul(c.g, t.add(t.mul(c.y, c.y), 1.0))}


@rule("Sinh", "Cosh")
def hyperbolic(t: Tape, c: Call) -> Products:
    """`y = sinh x` or `cosh x`: dx = g cosh x or g sinh x."""
    other = "Cosh" if c.node.op_type == "Sinh" else "Sinh"
    return {0: lambda: t.mul(c.g, t.unary(other, c.input(0)))}


# x x times a factor plus a constant, under a root or not: dx = g over it (negative for Acos).
INVERSES = {
    "Asin": (-1.0, 1.0, True),
    "Acos": (-1.0, 1.0, True),
    "Atan": (1.0, 1.0, False),
    "Asinh": (1.0, 1.0, True),
    "Acosh": (1.0, -1.0, True),
    "Atanh": (-1.0, 1.0, False),
}


@rule(*INVERSES)
def inverse(t: Tape, c: Call) -> Products:
    """`asin x, acos x`: dx = +-g / sqrt(1 - x x); `atan x, atanh x`: dx = g / (1 +- x x).

    `asinh x, acosh x`: dx = g / sqrt(x x +- 1).
    """
    factor, constant, root = INVERSES[c.node.op_type]

    def product() -> ir.Value:
        x = c.input(0)
        under = t.add(t.mul(t.mul(x, x), factor), constant)
        slope = t.div(c.g, t.unary("Sqrt", under) if root else under)
        return t.neg(slope) if c.node.op_type == "Acos" else slope

    return {0: product}
