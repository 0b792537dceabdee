"""Rules of slices and pads: g goes back to where each element came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from export.gradient.constants import constant_ints
from export.gradient.dims import dims_of, fixed
from export.gradient.moves import Array, along, reversed_along
from export.gradient.present import present
from export.gradient.registry import Call, Products, rule
from export.gradient.tape import Tape


@dataclass(frozen=True)
class Cut:
    """What a slice takes of one axis: `count` elements from `begin` on, each `step` after the last."""

    begin: int
    count: int
    step: int


def _slice_problem(node: ir.Node) -> str | None:
    dims = dims_of(present(node.inputs[0]))
    if any(value is not None and constant_ints(value) is None for value in node.inputs[1:]):
        return "its bounds are not constant"
    axes, _, _ = _slice_inputs(node)
    return "it cuts an adapter rank" if any(isinstance(dims[axis], str) for axis in axes) else None


def _slice_inputs(node: ir.Node) -> tuple[list[int], list[int], list[int]]:
    """Axes (non-negative), starts and steps of a Slice with constant bounds."""
    given = [constant_ints(value) for value in node.inputs[1:]]
    starts, _, axes, steps = given + [None] * (4 - len(given))
    count, rank = len(present(starts)), len(dims_of(present(node.inputs[0])))
    axes = list(range(count)) if axes is None else [axis % rank for axis in axes]
    return axes, present(starts), steps or [1] * count


def _cuts(node: ir.Node) -> dict[int, Cut]:
    """Per axis what the slice takes: negative starts count from the end, all are clamped; the output says how many."""
    dims, result = dims_of(present(node.inputs[0])), dims_of(node.outputs[0])
    cuts = {}
    for axis, start, step in zip(*_slice_inputs(node), strict=True):
        size, count = fixed(dims[axis]), fixed(result[axis])
        begin = min(max(start + size if start < 0 else start, 0), size if step > 0 else size - 1)
        cuts[axis] = Cut(begin, count, step) if count else Cut(0, 0, 1)
    return cuts


@rule("Slice", inputs=(0,), check=_slice_problem)
def slice_(t: Tape, c: Call) -> Products:
    """`y = x[begin:end:step]`: dx = g, backwards if the step is, with zeros between, before and after."""

    def product() -> ir.Value:
        dims, g = dims_of(c.input(0)), c.g
        before, after = [0] * len(dims), [0] * len(dims)
        for axis, cut in _cuts(c.node).items():
            size, begin, step = fixed(dims[axis]), cut.begin, cut.step
            if step < 0:
                g, begin, step = reversed_along(t, g, axis), begin + (cut.count - 1) * step, -step
            if step > 1:
                g = _apart(t, g, axis, step, size - begin)
            before[axis], after[axis] = begin, size - begin - fixed(dims_of(g)[axis])
        return t.pad(g, before, after)

    return {0: product}


def _apart(t: Tape, g: ir.Value, axis: int, step: int, room: int) -> ir.Value:
    """`g` with `step - 1` zeros after each element along `axis`, cut to `room`."""
    dims = dims_of(g)
    count = fixed(dims[axis])
    lone = t.reshape(g, (*dims[: axis + 1], 1, *dims[axis + 1 :]))
    after = [step - 1 if i == axis + 1 else 0 for i in range(len(dims) + 1)]
    apart = t.reshape(t.pad(lone, [0] * len(after), after), (*dims[:axis], count * step, *dims[axis + 1 :]))
    return apart if count * step <= room else t.slice(apart, axis, 0, room)


def _pad_inputs(node: ir.Node) -> tuple[list[int], list[int]] | None:
    """What is added before and after each axis; None where it is not constant."""
    rank = len(dims_of(present(node.inputs[0])))
    given = constant_ints(node.inputs[1])
    chosen = node.inputs[3] if len(node.inputs) > 3 else None
    axes = list(range(rank)) if chosen is None else constant_ints(chosen)
    if given is None or axes is None:
        return None
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis % rank], after[axis % rank] = given[i], given[i + len(axes)]
    return before, after


def _mode(node: ir.Node) -> str:
    attribute = node.attributes.get("mode")
    return "constant" if attribute is None else attribute.as_string()


def _pad_problem(node: ir.Node) -> str | None:
    pads = _pad_inputs(node)
    if pads is None:
        return "its pads are not constant"
    if _mode(node) != "constant" and min(*pads[0], *pads[1], 0) < 0:
        return f"it cuts in mode {_mode(node)}"
    dims = dims_of(present(node.inputs[0]))
    touched = any((lo or hi) and isinstance(dim, str) for dim, lo, hi in zip(dims, *pads, strict=True))
    return "it pads an adapter rank" if touched else None


@rule("Pad", inputs=(0,), check=_pad_problem)
def pad(t: Tape, c: Call) -> Products:
    """`y = x with more around it`: dx = the part of g where x lies, plus what lies on copies of it."""
    before, after = present(_pad_inputs(c.node))
    if _mode(c.node) == "constant":
        return {0: lambda: _without(t, c.g, before, after)}

    def product() -> ir.Value:
        g = c.g
        for axis, (lo, hi) in enumerate(zip(before, after, strict=True)):
            if lo or hi:
                g = along(t, g, axis, _copies(fixed(dims_of(c.input(0))[axis]), lo, hi, _mode(c.node)))
        return g

    return {0: product}


def _without(t: Tape, g: ir.Value, before: Sequence[int], after: Sequence[int]) -> ir.Value:
    """The adjoint of a constant Pad, whose negative pads cut."""
    for axis, (lo, hi) in enumerate(zip(before, after, strict=True)):
        if lo > 0 or hi > 0:
            g = t.slice(g, axis, max(lo, 0), fixed(dims_of(g)[axis]) - max(hi, 0))
    return t.pad(g, [max(-lo, 0) for lo in before], [max(-hi, 0) for hi in after])


def _copies(size: int, before: int, after: int, mode: str) -> Array:
    """[size, padded]: 1 where the padded element is a copy of the other."""
    kind = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}[mode]
    origin = np.pad(np.arange(size), (before, after), mode=kind)  # type: ignore[call-overload] # one of its literals
    return np.asarray(np.arange(size)[:, None] == origin[None, :], np.float64)
