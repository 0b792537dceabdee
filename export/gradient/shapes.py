"""Rules of operators that move, repeat or select elements."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnx_ir as ir

from export.gradient.constants import constant_array, constant_ints
from export.gradient.dims import dims_of, dtype_of, fixed
from export.gradient.present import present
from export.gradient.registry import Call, Products, cuts_a_rank, rule
from export.gradient.tape import Tape


def _training(node: ir.Node) -> str | None:
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    array = constant_array(mode)
    return None if mode is None or (array is not None and not array.any()) else "it drops values at random"


@rule("Dropout", inputs=(0,), check=_training)
def dropout(t: Tape, c: Call) -> Products:
    """`y = x` outside training: dx = g."""
    return {0: lambda: c.g}


@rule("Identity")
def identity(t: Tape, c: Call) -> Products:
    """`y = x`: dx = g."""
    return {0: lambda: c.g}


@rule("Reshape", "Squeeze", "Unsqueeze", "Flatten", inputs=(0,))
def reshape(t: Tape, c: Call) -> Products:
    """`y = x in another shape`: dx = g in the shape of x."""
    return {0: lambda: t.reshape(c.g, dims_of(c.input(0)))}


@rule("Transpose")
def transpose(t: Tape, c: Call) -> Products:
    """`y = x with axes p`: dx = g with the inverse permutation."""
    rank = len(dims_of(c.input(0)))
    attribute = c.node.attributes.get("perm")
    perm = list(attribute.as_ints()) if attribute is not None else list(reversed(range(rank)))
    inverse = sorted(range(rank), key=lambda i: perm[i])
    return {0: lambda: t.transpose(c.g, inverse)}


@rule("Expand", inputs=(0,))
def expand(t: Tape, c: Call) -> Products:
    """`y = x broadcast`: dx = red(g, x)."""
    return {0: lambda: t.red(c.g, c.input(0))}


@rule("Concat")
def concat(t: Tape, c: Call) -> Products:
    """`y = [a, b, ...]` along an axis: the part of g that lies where the input lies."""
    axis = c.int("axis", 0) % len(dims_of(c.y))
    products: dict[int, Callable[[], ir.Value]] = {}
    begin = 0
    for i in range(len(c.node.inputs)):
        end = begin + fixed(dims_of(c.input(i))[axis])
        products[i] = partial(t.slice, c.g, axis, begin, end)
        begin = end
    return products


@rule("Split", inputs=(0,), every_output=True)
def split(t: Tape, c: Call) -> Products:
    """`[y, z, ...] = x along an axis`: dx = the cotangents concatenated, zeros for unused outputs."""
    x = c.input(0)
    axis = c.int("axis", 0) % len(dims_of(x))

    def product() -> ir.Value:
        parts = [t.zeros(y) if g is None else g for y, g in zip(c.node.outputs, c.cotangents, strict=True)]
        return t.concat(parts, axis)

    return {0: product}


def _repeats_problem(node: ir.Node) -> str | None:
    if constant_ints(node.inputs[1]) is None:
        return "its repeats are not constant"
    return cuts_a_rank(node)


@rule("Tile", inputs=(0,), check=_repeats_problem)
def tile(t: Tape, c: Call) -> Products:
    """`y = x repeated along each axis`: dx = g summed over the repeats."""
    dims, repeats = dims_of(c.input(0)), present(constant_ints(c.input(1)))

    def product() -> ir.Value:
        parted = [size for pair in zip(repeats, dims, strict=True) for size in pair]
        axes = [2 * i for i, count in enumerate(repeats) if count != 1]
        return t.reshape(t.reduce_sum(t.reshape(c.g, tuple(parted)), axes), dims)

    return {0: product}


@rule("Trilu", inputs=(0,))
def triangle(t: Tape, c: Call) -> Products:
    """`y = x above or below a diagonal`: dx = the same part of g."""
    flags = {"upper": c.int("upper", 1)}
    return {0: lambda: t.emit("Trilu", [c.g, c.optional(1)], dims_of(c.g), dtype_of(c.g), flags)}


@rule("ReverseSequence", inputs=(0,))
def reverse_sequence(t: Tape, c: Call) -> Products:
    """`y = x with the first items of each sequence backwards`: dx = g turned the same way."""
    axes = {"batch_axis": c.int("batch_axis", 1), "time_axis": c.int("time_axis", 0)}
    return {0: lambda: t.emit("ReverseSequence", [c.g, c.input(1)], dims_of(c.g), dtype_of(c.g), axes)}


@rule("DepthToSpace", check=cuts_a_rank)
def depth_to_space(t: Tape, c: Call) -> Products:
    """`y = channels of x laid out as blocks of pixels`: dx = the blocks of g laid back (DCR and CRD order)."""
    block, dims = c.int("blocksize", 1), dims_of(c.input(0))
    attribute = c.node.attributes.get("mode")
    items, channels, height, width = (fixed(dim) for dim in dims)
    parted = (items, channels // block**2, height, block, width, block)
    depth_first = attribute is None or attribute.as_string() == "DCR"
    perm = [0, 3, 5, 1, 2, 4] if depth_first else [0, 1, 3, 5, 2, 4]
    return {0: lambda: t.reshape(t.transpose(t.reshape(c.g, parted), perm), dims)}


@rule("SpaceToDepth", check=cuts_a_rank)
def space_to_depth(t: Tape, c: Call) -> Products:
    """`y = blocks of pixels of x laid out as channels`: dx = DepthToSpace(g) in the same order (DCR or CRD)."""
    attribute = c.node.attributes.get("mode")
    mode = "DCR" if attribute is None else attribute.as_string()
    flags: dict[str, int | str] = {"blocksize": c.int("blocksize", 1), "mode": mode}
    return {0: lambda: t.emit("DepthToSpace", [c.g], dims_of(c.input(0)), dtype_of(c.g), flags)}
