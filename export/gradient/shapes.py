"""Rules of operators that move, repeat or select elements."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnx_ir as ir

from export.gradient.constants import constant_array, constant_ints
from export.gradient.dims import dims_of, fixed
from export.gradient.present import present
from export.gradient.registry import Call, Products, rule
from export.gradient.tape import Tape


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


def _slice_problem(node: ir.Node) -> str | None:
    dims = dims_of(present(node.inputs[0]))
    if any(value is not None and constant_ints(value) is None for value in node.inputs[1:]):
        return "its bounds are not constant"
    axes, _, _, steps = _slice_inputs(node)
    if any(step != 1 for step in steps):
        return "its step is not 1"
    if any(isinstance(dims[axis], str) for axis in axes):
        return "it cuts an adapter rank"
    return None


def _slice_inputs(node: ir.Node) -> tuple[list[int], list[int], list[int], list[int]]:
    """Axes (non-negative), starts, ends and steps of a Slice with constant bounds."""
    given = [constant_ints(value) for value in node.inputs[1:]]
    starts, ends, axes, steps = given + [None] * (4 - len(given))
    count, rank = len(present(starts)), len(dims_of(present(node.inputs[0])))
    axes = list(range(count)) if axes is None else [axis % rank for axis in axes]
    return axes, present(starts), present(ends), steps or [1] * count


def _slice_bounds(node: ir.Node) -> dict[int, tuple[int, int]]:
    """Per axis where the slice begins and ends: negative bounds count from the end, all are clamped."""
    axes, starts, ends, _ = _slice_inputs(node)
    dims = dims_of(present(node.inputs[0]))
    bounds = {}
    for axis, start, end in zip(axes, starts, ends, strict=True):
        size = fixed(dims[axis])
        begin, stop = (min(max(i + size if i < 0 else i, 0), size) for i in (start, end))
        bounds[axis] = (begin, max(begin, stop))
    return bounds


@rule("Slice", inputs=(0,), check=_slice_problem)
def slice_(t: Tape, c: Call) -> Products:
    """`y = x[begin:end]`: dx = g with begin zeros before and size - end zeros after it."""
    dims = dims_of(c.input(0))
    bounds = _slice_bounds(c.node)
    before = [bounds[axis][0] if axis in bounds else 0 for axis in range(len(dims))]
    after = [fixed(dims[axis]) - bounds[axis][1] if axis in bounds else 0 for axis in range(len(dims))]
    return {0: lambda: t.pad(c.g, before, after)}


def _gather_problem(node: ir.Node) -> str | None:
    index = constant_array(node.inputs[1])
    return None if index is not None and index.size == 1 else "its index is not one constant number"


@rule("Gather", inputs=(0,), check=_gather_problem)
def gather(t: Tape, c: Call) -> Products:
    """`y = x[..., i, ...] with one constant i`: dx = g padded with zeros around position i."""
    x, index = c.input(0), present(constant_array(c.input(1)))
    dims = dims_of(x)
    axis = c.int("axis", 0) % len(dims)
    size = fixed(dims[axis])
    position = int(index.reshape(())) % size
    before = [position if i == axis else 0 for i in range(len(dims))]
    after = [size - position - 1 if i == axis else 0 for i in range(len(dims))]

    def product() -> ir.Value:
        kept = c.g if index.ndim else t.unsqueeze(c.g, [axis])
        return t.pad(t.reshape(kept, (*dims[:axis], 1, *dims[axis + 1 :])), before, after)

    return {0: product}
