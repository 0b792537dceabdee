"""Rules of activation functions and softmaxes."""

from __future__ import annotations

import math

import onnx_ir as ir

from export.gradient.constants import constant_array
from export.gradient.dims import dims_of
from export.gradient.registry import Call, Products, rule
from export.gradient.tape import Tape


@rule("Relu")
def relu(t: Tape, c: Call) -> Products:
    """`y = max(x, 0)`: dx = g where y > 0, else 0."""
    return {0: lambda: t.where(t.binary("Greater", c.y, 0.0, ir.DataType.BOOL), c.g, 0.0)}


@rule("Tanh")
def tanh(t: Tape, c: Call) -> Products:
    """`y = tanh x`: dx = g (1 - y y)."""
    return {0: lambda: t.mul(c.g, t.sub(1.0, t.mul(c.y, c.y)))}


@rule("Sigmoid")
def sigmoid(t: Tape, c: Call) -> Products:
    """`y = 1 / (1 + exp(-x))`: dx = g y (1 - y)."""
    return {0: lambda: t.mul(c.g, t.mul(c.y, t.sub(1.0, c.y)))}


@rule("Erf")
def erf(t: Tape, c: Call) -> Products:
    """`y = erf x`: dx = g 2/sqrt(pi) exp(-x x)."""
    x = c.input(0)
    return {0: lambda: t.mul(c.g, t.mul(t.unary("Exp", t.neg(t.mul(x, x))), 2.0 / math.sqrt(math.pi)))}


@rule("Gelu")
def gelu(t: Tape, c: Call) -> Products:
    """`y = x cdf(x)`, exactly or by the tanh approximation (Hendrycks and Gimpel, arXiv:1606.08415, section 2)."""
    attribute = c.node.attributes.get("approximate")
    approximate = "none" if attribute is None else attribute.as_string()
    slope = _tanh_slope if approximate == "tanh" else _erf_slope
    return {0: lambda: t.mul(c.g, slope(t, c.input(0)))}


def _erf_slope(t: Tape, x: ir.Value) -> ir.Value:
    """The slope cdf + x pdf: cdf = 0.5 (1 + erf(x / sqrt 2)), pdf = exp(-x x / 2) / sqrt(2 pi): only x is kept."""
    cdf = t.mul(t.add(t.unary("Erf", t.mul(x, math.sqrt(0.5))), 1.0), 0.5)
    pdf = t.mul(t.unary("Exp", t.mul(t.mul(x, x), -0.5)), 1.0 / math.sqrt(2.0 * math.pi))
    return t.add(cdf, t.mul(x, pdf))


def _tanh_slope(t: Tape, x: ir.Value) -> ir.Value:
    """0.5 (1 + h) + 0.5 k x (1 - h h) (1 + 0.134145 x x), h = tanh(k (x + 0.044715 x^3)), k = sqrt(2 / pi)."""
    k = math.sqrt(2.0 / math.pi)
    square = t.mul(x, x)
    inner = t.mul(t.mul(x, k), t.add(t.mul(square, 0.044715), 1.0))
    h = t.unary("Tanh", inner)
    outer = t.mul(t.mul(x, 0.5 * k), t.add(t.mul(square, 3.0 * 0.044715), 1.0))
    return t.add(t.mul(t.add(h, 1.0), 0.5), t.mul(outer, t.sub(1.0, t.mul(h, h))))


@rule("Softmax")
def softmax(t: Tape, c: Call) -> Products:
    """`y = softmax x`: dx = y g - y sum(y g), y guarded against rows that are masked as a whole.

    An export that masks with -inf and then replaces NaN by 0 has NaN in y where a whole row is masked, as
    left padding does; NaN times the zero that comes back would be NaN. The guard's own output is y then.
    """
    axis = c.int("axis", -1) % len(dims_of(c.y))

    def product() -> ir.Value:
        y = _guarded(t, c.y)
        yg = t.mul(y, c.g)
        return t.sub(yg, t.mul(y, t.reduce_sum(yg, [axis])))

    return {0: product}


def _guarded(t: Tape, y: ir.Value) -> ir.Value:
    """The output of `Where(IsNaN(y), 0, y)`; the same for any other Where over y, which may be such a guard."""
    selections = _selections(y)
    for node in selections:
        condition = node.inputs[0]
        test = condition.producer() if condition is not None else None
        zero = constant_array(node.inputs[1])
        if test is None or test.op_type != "IsNaN" or test.inputs[0] is not y:
            continue
        if node.inputs[2] is y and zero is not None and not zero.any():
            return node.outputs[0]
    if not selections:
        return y
    return t.where(t.emit("IsNaN", [y], dims_of(y), ir.DataType.BOOL), 0.0, y)


def _selections(y: ir.Value) -> list[ir.Node]:
    """Every Where that takes `y` or leaves it, also as another type."""
    found = []
    for use in y.uses():
        if use.node.op_type == "Where" and use.idx > 0:
            found.append(use.node)
        elif use.node.op_type == "Cast":
            found += _selections(use.node.outputs[0])
    return found


@rule("LogSoftmax")
def log_softmax(t: Tape, c: Call) -> Products:
    """`y = log softmax x`: dx = g - exp(y) sum(g)."""
    axis = c.int("axis", -1) % len(dims_of(c.y))
    return {0: lambda: t.sub(c.g, t.mul(t.unary("Exp", c.y), t.reduce_sum(c.g, [axis])))}
