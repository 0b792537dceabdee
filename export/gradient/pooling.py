"""Rules of pools over windows and over all pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from export.gradient.dims import dims_of, dtype_of, fixed, size_of
from export.gradient.moves import Array, along, scatter_elements, zeros
from export.gradient.outputs import output
from export.gradient.reductions import spread_evenly
from export.gradient.registry import Call, Products, rule
from export.gradient.tape import Tape
from export.gradient.windows import Window, ints, windows


def _windows(c: Call) -> list[Window]:
    return windows(c.node, dims_of(c.input(0))[2:], dims_of(c.y)[2:], ints(c.node, "kernel_shape", []))


def _column_major(node: ir.Node) -> str | None:
    order = node.attributes.get("storage_order")
    return "attribute storage_order is set" if order is not None and order.as_int() else None


@rule("MaxPool", check=_column_major)
def max_pool(t: Tape, c: Call) -> Products:
    """`y = max over each window`: g is added to dx where the maximum stood, by the operator's own output 1."""
    x = c.input(0)

    def product() -> ir.Value:
        index = output(t, c.node, 1, dims_of(c.y), ir.DataType.INT64)
        size, count = (size_of(dims_of(value)) for value in (x, c.y))
        flat = zeros(t, (size,), x.dtype or ir.DataType.FLOAT)
        added = scatter_elements(t, flat, t.reshape(index, (count,)), t.reshape(c.g, (count,)), 0, "add")
        return t.reshape(added, dims_of(x))

    return {0: product}


def _average(window: Window, *, padded: bool) -> Array:
    """[size, count]: what a cell counts in the mean of each window; pads count as cells where `padded`."""
    matrix = np.zeros((window.size, window.count))
    for p in range(window.count):
        first = p * window.stride - window.before
        cells = [first + j * window.dilation for j in range(window.kernel)]
        inside = [cell for cell in cells if 0 <= cell < window.size]
        counted = [cell for cell in cells if cell < window.size + window.after] if padded else inside
        matrix[inside, p] = 1.0 / max(len(counted), 1)
    return matrix


@rule("AveragePool")
def average_pool(t: Tape, c: Call) -> Products:
    """`y = mean over each window`: dx = P^T g along each axis, where P [windows, cells] averages along that axis."""
    padded = bool(c.int("count_include_pad", 0))
    return {0: lambda: _all_axes(t, c.g, [_average(window, padded=padded) for window in _windows(c)])}


def _all_axes(t: Tape, g: ir.Value, matrices: Sequence[Array]) -> ir.Value:
    for i, matrix in enumerate(matrices):
        g = along(t, g, i + 2, matrix)
    return g


@rule("GlobalAveragePool")
def global_average_pool(t: Tape, c: Call) -> Products:
    """`y = mean over n pixels`: dx = g / n expanded to x."""
    x = c.input(0)
    pixels = size_of([fixed(dim) for dim in dims_of(x)[2:]])
    return {0: lambda: t.expand(t.mul(c.g, 1.0 / pixels), x)}


@rule("GlobalMaxPool")
def global_max_pool(t: Tape, c: Call) -> Products:
    """`y = max over all pixels`: dx = g where x = y, in equal parts where several are."""
    axes = list(range(2, len(dims_of(c.input(0)))))
    return {0: lambda: spread_evenly(t, c.input(0), c.y, c.g, axes)}


@rule("LpPool")
def lp_pool(t: Tape, c: Call) -> Products:
    """`y = (sum over each window |x|^p)^(1/p)`: dx = sign(x) |x|^(p-1) S^T (g y^(1-p)), S the sum; zero where y = 0."""
    matrices = [_average(window, padded=False) > 0 for window in _windows(c)]
    x, p = c.input(0), c.int("p", 2)

    def product() -> ir.Value:
        positive = t.emit("Greater", [c.y, t.scalar(0.0, dtype_of(c.y))], dims_of(c.y), ir.DataType.BOOL)
        least = t.where(positive, c.y, 1.0)  # where y = 0 so is x, and the product with it
        seen = c.g if p == 1 else t.mul(c.g, t.binary("Pow", least, float(1 - p)))
        back = t.mul(_all_axes(t, seen, [matrix.astype(float) for matrix in matrices]), t.unary("Sign", x))
        return back if p == 1 else t.mul(back, t.binary("Pow", t.unary("Abs", x), float(p - 1)))

    return {0: product}


@rule("GlobalLpPool")
def global_lp_pool(t: Tape, c: Call) -> Products:
    """`y = (sum over all pixels |x|^p)^(1/p)`: dx = sign(x) |x|^(p-1) g y^(1-p), and 0 where y is 0."""
    x, p = c.input(0), c.int("p", 2)

    def product() -> ir.Value:
        sides = t.unary("Sign", x) if p == 1 else t.mul(t.unary("Sign", x), _power(t, t.unary("Abs", x), p - 1))
        positive = t.binary("Greater", c.y, 0.0, ir.DataType.BOOL)
        return t.mul(sides, t.mul(c.g, _power(t, t.where(positive, c.y, 1.0), 1 - p)))

    return {0: product}


def _power(t: Tape, x: ir.Value, exponent: int) -> ir.Value:
    return t.binary("Pow", x, float(exponent))


@rule("LRN")
def local_response_normalization(t: Tape, c: Call) -> Products:
    """`y = x s^-b, s = k + (a / n) sum x^2` over n channels around: dx = g s^-b - 2 a b / n x C^T (g x s^(-b-1))."""
    x, size, beta = c.input(0), c.int("size", 1), c.float("beta", 0.75)
    each = c.float("alpha", 1e-4) / size
    channels = fixed(dims_of(x)[1])
    at = np.arange(channels)
    behind = at[None, :] - at[:, None]  # [c, i]: how far the channel i lies behind c
    summed = ((behind >= -((size - 1) // 2)) & (behind <= size // 2)).astype(float)

    def product() -> ir.Value:
        base = t.add(t.mul(along(t, t.mul(x, x), 1, summed), each), c.float("bias", 1.0))
        scaled = t.mul(c.g, t.binary("Pow", base, -beta))
        back = along(t, t.div(t.mul(scaled, x), base), 1, summed.T)
        return t.sub(scaled, t.mul(t.mul(x, back), 2.0 * beta * each))

    return {0: product}
