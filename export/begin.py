"""A recurrent model under a head: every item is a whole sequence, which begins with states of zeros.

What one run leaves to the next has no meaning between labelled items. So the inputs that states come in by become
zeros inside the graph, and the outputs that they leave by go with all others that are no features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel
from export.edit import Edit, redirect
from export.sources.captured import Captured, Values
from export.verify import original_runs

Dims = tuple[int | str, ...]


def begin_with_zeros(captured: Captured) -> Captured:
    """The same model without states, its graph changed in place; the reference feeds zeros, too.

    Raises:
        UnsupportedModel: the size of a state follows from no other input.
    """
    states = {pair.input for pair in captured.states}
    if not states or captured.generate is not None:
        return captured
    graph = captured.model.graph
    dims = {str(value.name): _dims(value) for value in graph.inputs}
    types = {
        str(value.name): np.dtype(np.float32 if v is None else v.numpy())
        for value in graph.inputs
        for v in [value.dtype]
    }
    given = [value for value in graph.inputs if value.name not in states and not value.is_initializer()]
    edit = Edit(graph, "/begin")
    for number, value in enumerate([value for value in graph.inputs if value.name in states]):
        zero = edit.constant(f"zero.{number}", 0, types[str(value.name)].type)
        parts = [
            _size(edit, f"{number}.{axis}", dim, given, captured) for axis, dim in enumerate(dims[str(value.name)])
        ]
        made = edit.op("Expand", zero, edit.op("Concat", *parts, attributes={"axis": 0}))
        redirect(value, made, keep=edit.nodes)
        graph.inputs.remove(value)
    first = next(iter(graph))
    edit.put_before(first)

    def reference(runs: Sequence[Values]) -> list[Values]:
        out = []
        for run in runs:
            known = {str(d): n for name, a in run.items() for d, n in zip(dims.get(name, ()), a.shape, strict=False)}
            known |= {name: size for name, size in captured.sizes.items() if name not in known}
            zeros = {name: np.zeros(_numbers(dims[name], known), types[name]) for name in states}
            out += original_runs(captured.original, [{**run, **zeros}], (), {})
        return out

    return replace(captured, states=(), reference=reference)


def _dims(value: ir.Value) -> Dims:
    return tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape or ())


def _numbers(dims: Dims, known: Mapping[str, int]) -> list[int]:
    return [dim if isinstance(dim, int) else known[dim] for dim in dims]


def _size(edit: Edit, called: str, dim: int | str, given: Sequence[ir.Value], captured: Captured) -> ir.Value:
    """A dimension as a list of one."""
    if isinstance(dim, int) or dim in captured.sizes:
        return edit.constant(called, [dim if isinstance(dim, int) else captured.sizes[dim]], np.int64)
    for value in given:
        if dim in _dims(value):
            at = edit.constant(called, [_dims(value).index(dim)], np.int64)
            return edit.op("Gather", edit.op("Shape", value), at)
    raise UnsupportedModel(
        f"expected states whose size {dim} follows from another input, found none that has it in {captured.name}; "
        f"say --size {dim}=N"
    )
