"""Rules of activations that are made of pieces, and of those built on softplus. Parameters are attributes."""

from __future__ import annotations

import onnx_ir as ir

from export.gradient.registry import Call, Products, rule
from export.gradient.tape import Operand, Tape


def _above(t: Tape, x: ir.Value, bound: float, yes: Operand, no: Operand) -> ir.Value:
    return t.where(t.binary("Greater", x, bound, ir.DataType.BOOL), yes, no)


@rule("LeakyRelu")
def leaky_relu(t: Tape, c: Call) -> Products:
    """`y = x where x > 0 else alpha x`: dx = g where x > 0 else alpha g."""
    return {0: lambda: _above(t, c.input(0), 0.0, c.g, t.mul(c.g, c.float("alpha", 0.01)))}


@rule("PRelu")
def p_relu(t: Tape, c: Call) -> Products:
    """`y = x where x > 0 else s x`: dx = g where x > 0 else s g; ds = red(0 where x > 0 else g x, s)."""
    x, slope = c.input(0), c.input(1)
    return {
        0: lambda: _above(t, x, 0.0, c.g, t.mul(c.g, slope)),
        1: lambda: t.red(_above(t, x, 0.0, 0.0, t.mul(c.g, x)), slope),
    }


@rule("ThresholdedRelu")
def thresholded_relu(t: Tape, c: Call) -> Products:
    """`y = x where x > alpha else 0`: dx = g where x > alpha else 0."""
    return {0: lambda: _above(t, c.input(0), c.float("alpha", 1.0), c.g, 0.0)}


@rule("Elu")
def elu(t: Tape, c: Call) -> Products:
    """`y = x where x > 0 else alpha (e^x - 1)`: dx = g where x > 0 else g (y + alpha)."""
    return {0: lambda: _above(t, c.input(0), 0.0, c.g, t.mul(c.g, t.add(c.y, c.float("alpha", 1.0))))}


@rule("Selu")
def selu(t: Tape, c: Call) -> Products:
    """`y = gamma x where x > 0 else gamma alpha (e^x - 1)`: dx = gamma g where x > 0 else g (y + gamma alpha)."""
    alpha, gamma = c.float("alpha", 1.67326319217681884765625), c.float("gamma", 1.05070102214813232421875)

    def product() -> ir.Value:
        return _above(t, c.input(0), 0.0, t.mul(c.g, gamma), t.mul(c.g, t.add(c.y, gamma * alpha)))

    return {0: product}


@rule("Celu")
def celu(t: Tape, c: Call) -> Products:
    """`y = max(x, 0) + min(alpha (e^(x / alpha) - 1), 0)`: dx = g where x > 0 else g (y + alpha) / alpha."""
    alpha = c.float("alpha", 1.0)
    return {0: lambda: _above(t, c.input(0), 0.0, c.g, t.mul(c.g, t.add(t.mul(c.y, 1.0 / alpha), 1.0)))}


@rule("Shrink")
def shrink(t: Tape, c: Call) -> Products:
    """`y = x + bias where x < -lambd, x - bias where x > lambd, else 0`: dx = g where |x| > lambd else 0."""
    return {0: lambda: _above(t, t.unary("Abs", c.input(0)), c.float("lambd", 0.5), c.g, 0.0)}


def _between(t: Tape, x: ir.Value, low: float, high: float, yes: Operand) -> ir.Value:
    inside = t.where(t.binary("Less", x, high, ir.DataType.BOOL), yes, 0.0)
    return _above(t, x, low, inside, 0.0)


@rule("HardSigmoid")
def hard_sigmoid(t: Tape, c: Call) -> Products:
    """`y = min(max(alpha x + beta, 0), 1)`: dx = alpha g where 0 < y < 1, else 0."""
    return {0: lambda: _between(t, c.y, 0.0, 1.0, t.mul(c.g, c.float("alpha", 0.2)))}


@rule("HardSwish")
def hard_swish(t: Tape, c: Call) -> Products:
    """Howard et al., arXiv:1905.02244, section 5.2: y = x min(max(x / 6 + 1/2, 0), 1).

    dx = g where x >= 3, g (x / 3 + 1/2) where -3 < x < 3, else 0.
    """
    x = c.input(0)

    def product() -> ir.Value:
        middle = t.mul(c.g, t.add(t.mul(x, 1.0 / 3.0), 0.5))
        below = t.where(t.binary("Less", x, 3.0, ir.DataType.BOOL), middle, c.g)
        return _above(t, x, -3.0, below, 0.0)

    return {0: product}


@rule("Softplus")
def softplus(t: Tape, c: Call) -> Products:
    """`y = log(1 + e^x)`: dx = g sigmoid(x)."""
    return {0: lambda: t.mul(c.g, t.unary("Sigmoid", c.input(0)))}


@rule("Softsign")
def softsign(t: Tape, c: Call) -> Products:
    """`y = x / (1 + |x|)`: dx = g (1 - |y|)^2."""

    def product() -> ir.Value:
        rest = t.sub(1.0, t.unary("Abs", c.y))
        return t.mul(c.g, t.mul(rest, rest))

    return {0: product}


@rule("Mish")
def mish(t: Tape, c: Call) -> Products:
    """Misra, arXiv:1908.08681, equation 4: y = x h, h = tanh(softplus x): dx = g (h + x (1 - h h) sigmoid(x))."""
    x = c.input(0)

    def product() -> ir.Value:
        h = t.unary("Tanh", t.unary("Softplus", x))
        slope = t.mul(t.mul(x, t.unary("Sigmoid", x)), t.sub(1.0, t.mul(h, h)))
        return t.mul(c.g, t.add(h, slope))

    return {0: product}
