"""Inputs to check a graph with, drawn from a seed by what the graph does with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.gradient.dims import shape_of

Array = NDArray[Any]

# what hands the numbers of an integer on as they are
CARRIERS = frozenset({"Cast", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Identity", "Transpose", "Flatten", "Slice"})
INDEXED = {"Gather": 1, "GatherElements": 1, "ScatterElements": 1}
FEW = 2  # an integer that is no index: a flag, a type


def draw_inputs(graph: ir.Graph, seed: int, leave_out: Collection[str] = ()) -> dict[str, Array]:
    """One array per input that must be fed.

    Floats are normal, integers are below the size of every table that they look things up in.

    Args:
        graph: frozen; its inputs have known shapes.
        seed: of the numbers.
        leave_out: inputs that are not drawn.
    """
    rng = np.random.default_rng(seed)
    wanted = [v for v in graph.inputs if not v.is_initializer() and v.name not in leave_out]
    return {str(value.name): _draw(value, rng) for value in wanted}


def zeros_of(graph: ir.Graph, names: Collection[str]) -> dict[str, Array]:
    """Zeros for some inputs: states before the first run."""
    return {str(v.name): np.zeros(_shape(v), _dtype(v)) for v in graph.inputs if v.name in names}


def fitted(given: Mapping[str, Array], graph: ir.Graph) -> dict[str, Array]:
    """Real inputs in the shapes of a frozen graph: rows are repeated until there are enough, and cut where too many."""
    out = {}
    for value in graph.inputs:
        name = str(value.name)
        if name in given:
            shape, array = _shape(value), np.asarray(given[name])
            if array.ndim and shape and array.shape[0] != shape[0]:
                array = np.resize(array, (shape[0], *array.shape[1:]))
            out[name] = np.ascontiguousarray(array, _dtype(value))
    return out


def _draw(value: ir.Value, rng: np.random.Generator) -> Array:
    shape, dtype = _shape(value), _dtype(value)
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind in "iu":
        return np.asarray(rng.integers(0, _bound(value), shape), dtype)
    return np.asarray(rng.standard_normal(shape), dtype)


def _bound(value: ir.Value) -> int:
    """What an integer must stay below: rows of the smallest table that it is an index of."""
    found, seen, waiting = [], {value}, [value]
    while waiting:
        current = waiting.pop()
        for node, index in current.uses():
            if node.op_type in INDEXED and index == INDEXED[node.op_type] and not node.domain:
                found.append(_rows(node))
            elif node.op_type in CARRIERS and index == 0:
                waiting.extend(v for v in node.outputs if v not in seen)
                seen.update(node.outputs)
    sizes = [size for size in found if size]
    return min(sizes, default=FEW)


def _rows(node: ir.Node) -> int:
    dims = None if node.inputs[0] is None else shape_of(node.inputs[0])
    axis = node.attributes.get_int("axis", 0)
    size = None if not dims else dims[axis]
    return size if isinstance(size, int) else 0


def _shape(value: ir.Value) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else 1 for dim in shape_of(value) or ())


def _dtype(value: ir.Value) -> np.dtype[Any]:
    return np.dtype(np.float32) if value.dtype is None else value.dtype.numpy()
