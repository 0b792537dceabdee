"""Rules of operators that take elements by index or put them: g goes back by the same index, added where two meet.

An index below 0 counts from the end. onnxruntime adds one after the other in ScatterElements only, so that is where
rows that meet are added.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import onnx_ir as ir

from export.gradient.constants import constant_array
from export.gradient.dims import dims_of, dtype_of, fixed, size_of
from export.gradient.moves import scatter_elements, summed_rows, zeros
from export.gradient.outputs import output
from export.gradient.present import present
from export.gradient.registry import Call, Products, cuts_a_rank, rule
from export.gradient.tape import Tape


def _one_number(node: ir.Node) -> bool:
    index = constant_array(node.inputs[1])
    return index is not None and index.size == 1


def _gather_problem(node: ir.Node) -> str | None:
    dims = dims_of(present(node.inputs[0]))
    if _one_number(node):
        attribute = node.attributes.get("axis")
        axis = 0 if attribute is None else attribute.as_int()
        return "it cuts an adapter rank" if isinstance(dims[axis], str) else None
    return cuts_a_rank(node)


@rule("Gather", inputs=(0,), check=_gather_problem)
def gather(t: Tape, c: Call) -> Products:
    """`y = x[..., i, ...]`: dx = zeros with g added at i along the axis; one constant i: g padded with zeros."""
    if _one_number(c.node):
        return {0: lambda: _padded(t, c)}
    x, index = c.input(0), c.input(1)
    dims, picked = dims_of(x), dims_of(index)
    axis = c.int("axis", 0) % len(dims)

    def product() -> ir.Value:
        count = size_of(picked)
        lead, rest = dims[:axis], dims[axis + 1 :]
        g = t.reshape(c.g, (size_of(lead), count, size_of(rest)))
        rows = t.reshape(t.transpose(g, [1, 0, 2]) if size_of(lead) != 1 else g, (count, size_of(lead) * size_of(rest)))
        added = summed_rows(t, rows, t.reshape(index, (count,)), fixed(dims[axis]))
        if size_of(lead) != 1:
            added = t.transpose(t.reshape(added, (dims[axis], size_of(lead), size_of(rest))), [1, 0, 2])
        return t.reshape(added, dims)

    return {0: product}


def _padded(t: Tape, c: Call) -> ir.Value:
    x, index = c.input(0), present(constant_array(c.input(1)))
    dims = dims_of(x)
    axis = c.int("axis", 0) % len(dims)
    size = fixed(dims[axis])
    position = int(index.reshape(())) % size
    before = [position if i == axis else 0 for i in range(len(dims))]
    after = [size - position - 1 if i == axis else 0 for i in range(len(dims))]
    return t.pad(t.reshape(c.g, (*dims[:axis], 1, *dims[axis + 1 :])), before, after)


@rule("GatherElements", inputs=(0,), check=cuts_a_rank)
def gather_elements(t: Tape, c: Call) -> Products:
    """`y = x at i along one axis`: dx = zeros with g added at i along it."""
    x = c.input(0)
    axis = c.int("axis", 0) % len(dims_of(x))
    return {0: lambda: scatter_elements(t, zeros(t, dims_of(x), dtype_of(x)), c.input(1), c.g, axis, "add")}


def _linear(t: Tape, index: ir.Value, dims: list[int], batch: list[int]) -> ir.Value:
    """The flat position of each index tuple [..., K] in the first axes of `dims`: [L]; batches one after another."""
    *many, width = dims_of(index)
    sizes = dims[len(batch) : len(batch) + fixed(width)]
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    start = np.arange(math.prod(batch)) * math.prod(sizes)
    offsets = start.reshape([*batch, *[1] * (len(many) - len(batch))]) if batch else start.reshape(())
    constant, int64 = constant_array(index), ir.DataType.INT64
    if constant is not None:
        flat = np.where(constant < 0, constant + np.array(sizes), constant) @ np.array(strides)
        return t.constant((flat + offsets).reshape(-1), int64)
    upward = t.where(t.binary("Less", index, t.ints([0]), ir.DataType.BOOL), t.add(index, t.ints(sizes)), index)
    flat_ = t.reduce_sum(t.mul(upward, t.ints(strides)), [len(many)], keepdims=False)
    return t.reshape(t.add(flat_, t.constant(offsets, int64)) if batch else flat_, (size_of(many),))


@rule("GatherND", inputs=(0,), check=cuts_a_rank)
def gather_nd(t: Tape, c: Call) -> Products:
    """`y[l] = x[i_l1, i_l2, ...]`: dx = zeros with g added at each index tuple, batch by batch."""
    x, index = c.input(0), c.input(1)
    dims = [fixed(dim) for dim in dims_of(x)]
    batch = dims[: c.int("batch_dims", 0)]

    def product() -> ir.Value:
        flat = _linear(t, index, dims, batch)
        count, width = fixed(dims_of(flat)[0]), len(batch) + fixed(dims_of(index)[-1])
        rows = t.reshape(c.g, (count, math.prod(dims[width:])))
        return t.reshape(summed_rows(t, rows, flat, math.prod(dims[:width])), tuple(dims))

    return {0: product}


def _reduction(node: ir.Node) -> str:
    attribute = node.attributes.get("reduction")
    return "none" if attribute is None else attribute.as_string()


def _reduction_problem(node: ir.Node) -> str | None:
    kind = _reduction(node)
    return cuts_a_rank(node) if kind in {"none", "add"} else f"its reduction is {kind}"


@rule("ScatterElements", inputs=(0, 2), check=_reduction_problem)
def scatter_elements_(t: Tape, c: Call) -> Products:
    """`y = x with u put or added at i`: dx = g, and 0 at i where put; du = g at i along the axis."""
    index, updates = c.input(1), c.input(2)
    axis = c.int("axis", 0) % len(dims_of(c.y))
    blank = cache(lambda: zeros(t, dims_of(updates), dtype_of(updates)))
    flags = {"axis": axis}
    return {
        0: lambda: c.g if _reduction(c.node) == "add" else scatter_elements(t, c.g, index, blank(), axis),
        2: lambda: t.emit("GatherElements", [c.g, index], dims_of(updates), dtype_of(updates), flags),
    }


@rule("ScatterND", inputs=(0, 2), check=_reduction_problem)
def scatter_nd(t: Tape, c: Call) -> Products:
    """`y = x with u put or added at index tuples`: dx = g, and 0 there where put; du = g at the index tuples."""
    index, updates = c.input(1), c.input(2)

    def kept() -> ir.Value:
        if _reduction(c.node) == "add":
            return c.g
        blank = zeros(t, dims_of(updates), dtype_of(updates))
        return t.emit("ScatterND", [c.g, index, blank], dims_of(c.g), dtype_of(c.g))

    return {0: kept, 2: lambda: t.emit("GatherND", [c.g, index], dims_of(updates), dtype_of(updates))}


@rule("TopK", inputs=(0,), check=cuts_a_rank)
def top_k(t: Tape, c: Call) -> Products:
    """`y = the largest of x along an axis`: dx = zeros with g at the operator's own output 1."""
    x = c.input(0)
    axis = c.int("axis", -1) % len(dims_of(x))

    def product() -> ir.Value:
        index = output(t, c.node, 1, dims_of(c.y), ir.DataType.INT64)
        return scatter_elements(t, zeros(t, dims_of(x), dtype_of(x)), index, c.g, axis)

    return {0: product}
