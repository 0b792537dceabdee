"""The rule of GridSample: each sample is a weighted sum of the pixels that lie around its place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, reduce

import numpy as np
import onnx_ir as ir

from export.gradient.dims import dims_of, dtype_of, fixed, size_of
from export.gradient.moves import Array, scatter_elements, zeros
from export.gradient.registry import Call, Products, cuts_a_rank, rule
from export.gradient.tape import Tape

MODES = ("linear", "bilinear", "nearest")  # the second is the name of the first before opset 20
PADDINGS = ("zeros", "border")


def _text(node: ir.Node, name: str, default: str) -> str:
    return node.attributes[name].as_string() if name in node.attributes else default


def _problem(node: ir.Node) -> str | None:
    for name, default, known in (("mode", "linear", MODES), ("padding_mode", "zeros", PADDINGS)):
        value = _text(node, name, default)
        if value not in known:
            return f"attribute {name} is {value}"
    return cuts_a_rank(node)


@dataclass(frozen=True)
class Corner:
    """One of the pixels around every place; axes are those of a grid, the innermost of the picture first.

    `ups` says per axis whether it is the upper one; `index` [N, P] its place in the flat picture; `parts` [N, P] its
    weight along each axis; `inside` [N, P] is 1, or 0 where the picture has no such pixel.
    """

    ups: tuple[int, ...]
    index: ir.Value
    parts: list[ir.Value]
    inside: ir.Value


@rule("GridSample", check=_problem)
def grid_sample(t: Tape, c: Call) -> Products:
    """Jaderberg et al., arXiv:1506.02025, equations 3 to 7: y = sum of w x over the pixels around a place, w linear.

    With p = the place in pixels and f = p - floor(p), w is a product of f and 1 - f along the axes:
    dx = zeros with g w added at those pixels; dgrid = dp/dgrid sum(g x) dw/dp, 0 where the border holds a place. Of
    the nearest pixel w is 1, and dgrid is 0.
    """
    x, grid = c.input(0), c.input(1)
    items, channels, *sizes = (fixed(dim) for dim in dims_of(x))
    count = math.prod(fixed(dim) for dim in dims_of(c.y)[2:])
    scales = np.array([(n - 1 if c.int("align_corners", 0) else n) / 2 for n in reversed(sizes)])
    g = cache(lambda: t.reshape(c.g, (items, channels, count)))
    pixels = cache(lambda: _pixels(t, t.reshape(grid, (items, count, len(sizes))), sizes, scales))
    held = cache(lambda: _held(t, pixels(), sizes))
    border = _text(c.node, "padding_mode", "zeros") == "border"
    nearest = _text(c.node, "mode", "linear") == "nearest"
    around = _nearest if nearest else _corners
    corners = cache(lambda: around(t, held() if border else pixels(), sizes))

    def dgrid() -> ir.Value:
        if nearest:
            return t.zeros(grid)
        slopes = t.mul(_slopes(t, x, g(), corners()), t.constant(scales, dtype_of(grid)))
        if border:
            slopes = t.where(t.binary("Equal", pixels(), held(), ir.DataType.BOOL), slopes, 0.0)
        return t.reshape(slopes, dims_of(grid))

    return {0: lambda: _spread(t, x, g(), corners()), 1: dgrid}


def _spread(t: Tape, x: ir.Value, g: ir.Value, corners: Sequence[Corner]) -> ir.Value:
    """g w, added up in the pixels that it came from."""
    items, channels, *sizes = dims_of(x)
    indices = [_in_channels(t, corner.index, g) for corner in corners]
    updates = [t.mul(g, t.unsqueeze(_product(t, [*corner.parts, corner.inside]), [1])) for corner in corners]
    blank = zeros(t, (items, channels, size_of(sizes)), dtype_of(x))
    added = scatter_elements(t, blank, t.concat(indices, 2), t.concat(updates, 2), 2, "add")
    return t.reshape(added, dims_of(x))


def _slopes(t: Tape, x: ir.Value, g: ir.Value, corners: Sequence[Corner]) -> ir.Value:
    """sum(g x) dw/dp over the pixels around each place: [N, P, axes]."""
    items, channels, *sizes = dims_of(x)
    picture = t.reshape(x, (items, channels, size_of(sizes)))
    slopes: list[list[ir.Value]] = [[] for _ in sizes]
    for corner in corners:
        index = _in_channels(t, corner.index, g)
        near = t.emit("GatherElements", [picture, index], dims_of(g), dtype_of(x), {"axis": 2})
        met = t.mul(t.reduce_sum(t.mul(g, near), [1], keepdims=False), corner.inside)
        for axis, up in enumerate(corner.ups):
            rest = [part for other, part in enumerate(corner.parts) if other != axis]
            slopes[axis].append(_product(t, [met if up else t.neg(met), *rest]))
    return t.concat([t.unsqueeze(reduce(t.add, parts), [2]) for parts in slopes], 2)


def _in_channels(t: Tape, value: ir.Value, g: ir.Value) -> ir.Value:
    """[N, P], the same for each channel of `g` [N, C, P]."""
    return t.expand(t.unsqueeze(value, [1]), g)


def _pixels(t: Tape, grid: ir.Value, sizes: Sequence[int], scales: Array) -> ir.Value:
    """Places of -1 to 1, from corner to corner, in pixels."""
    middles = np.array([(n - 1) / 2 for n in reversed(sizes)])
    return t.add(t.mul(grid, t.constant(scales, dtype_of(grid))), t.constant(middles, dtype_of(grid)))


def _held(t: Tape, pixels: ir.Value, sizes: Sequence[int]) -> ir.Value:
    """The nearest places that the picture has."""
    last = t.constant(np.array([n - 1 for n in reversed(sizes)]), dtype_of(pixels))
    return t.binary("Min", t.binary("Max", pixels, 0.0), last)


def _corners(t: Tape, pixels: ir.Value, sizes: Sequence[int]) -> list[Corner]:
    low = t.unary("Floor", pixels)
    upper = t.sub(pixels, low)
    lower = t.sub(1.0, upper)
    found = []
    for ups in itertools.product((0, 1), repeat=len(sizes)):
        place = t.add(low, t.constant(np.array(ups), dtype_of(low))) if any(ups) else low
        parts = [_column(t, upper if up else lower, axis) for axis, up in enumerate(ups)]
        found.append(_corner(t, place, sizes, ups, parts))
    return found


def _nearest(t: Tape, pixels: ir.Value, sizes: Sequence[int]) -> list[Corner]:
    return [_corner(t, t.unary("Round", pixels), sizes, (), [])]


def _corner(t: Tape, place: ir.Value, sizes: Sequence[int], ups: tuple[int, ...], parts: list[ir.Value]) -> Corner:
    strides = t.ints([math.prod(sizes[len(sizes) - axis :]) for axis in range(len(sizes))])
    held = _held(t, place, sizes)
    steps = t.mul(t.cast(held, ir.DataType.INT64), strides)
    kept = t.cast(t.binary("Equal", place, held, ir.DataType.BOOL), dtype_of(place))
    inside = t.squeeze(t.reduce_prod(kept, [2]), [2])
    return Corner(ups, t.reduce_sum(steps, [2], keepdims=False), parts, inside)


def _column(t: Tape, value: ir.Value, axis: int) -> ir.Value:
    """[N, P] of [N, P, axes]."""
    return t.squeeze(t.slice(value, 2, axis, axis + 1), [2])


def _product(t: Tape, factors: Sequence[ir.Value]) -> ir.Value:
    return reduce(t.mul, factors)
