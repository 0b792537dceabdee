"""Values that stored numbers and a few known ones decide, in float64: the handful of operators that restore weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.gradient.present import present

Array = NDArray[Any]


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer that nobody can feed."""
    return None if value is None or value.is_graph_input() else value.const_value


def decided(value: ir.Value, known: Mapping[ir.Value, Array] | None = None) -> bool:
    """Whether `numbers` can say what it is."""
    node = value.producer()
    if value in (known or {}) or constant(value) is not None:
        return True
    return (
        node is not None
        and (node.domain, node.op_type) in OPERATORS
        and all(decided(present(v), known) for v in node.inputs)
    )


def numbers(value: ir.Value, known: Mapping[ir.Value, Array] | None = None) -> Array:
    """What a value is, float64 where it is no index.

    Args:
        value: an initializer, or made of such.
        known: values that are neither.
    """
    if known is not None and value in known:
        return known[value]
    tensor = constant(value)
    if tensor is not None:
        return tensor.numpy()
    node = present(value.producer())
    return OPERATORS[node.domain, node.op_type](node, [numbers(present(v), known) for v in node.inputs])


def restoring(value: ir.Value) -> Iterator[ir.Node]:
    """The nodes between a value and the initializers that decide it."""
    node = value.producer()
    if node is not None:
        yield node
        for given in node.inputs:
            yield from restoring(present(given)) if given is not None else ()


def _cast(node: ir.Node, inputs: list[Array]) -> Array:
    floats = ir.DataType(node.attributes.get_int("to", 1)).is_floating_point()
    return inputs[0].astype(np.float64 if floats else np.int64)


def _gather(node: ir.Node, inputs: list[Array]) -> Array:
    return np.take(inputs[0], inputs[1].astype(np.int64), axis=node.attributes.get_int("axis", 0))


def _slice(node: ir.Node, inputs: list[Array]) -> Array:
    data, starts, ends, *more = inputs
    axes = more[0] if more else np.arange(len(starts))
    places = [slice(None)] * data.ndim
    for axis, start, end in zip(axes, starts, ends, strict=True):
        places[int(axis)] = slice(int(start), int(end))
    return data[tuple(places)]


def _float64(array: Array) -> NDArray[np.float64]:
    return array.astype(np.float64)


OPERATORS: dict[tuple[str, str], Callable[[ir.Node, list[Array]], Array]] = {
    ("", "Cast"): _cast,
    ("", "Gather"): _gather,
    ("", "Slice"): _slice,
    ("", "Reshape"): lambda node, inputs: inputs[0].reshape(inputs[1].astype(np.int64)),
    ("", "Add"): lambda node, inputs: _float64(inputs[0]) + _float64(inputs[1]),
    ("", "Sub"): lambda node, inputs: _float64(inputs[0]) - _float64(inputs[1]),
    ("", "Mul"): lambda node, inputs: _float64(inputs[0]) * _float64(inputs[1]),
}
