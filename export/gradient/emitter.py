"""Appends typed and shaped nodes and small shared constants to a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from console.errors import UnsupportedModel
from export.gradient.constants import is_constant
from export.gradient.dims import Dims, dims_of, dtype_of

# ScatterElements adds since opset 16; LayerNormalization exists since 17 and axes are inputs since 18.
MINIMUM_OPSET = 16
PREFIX = "bw."
BACKWARD = "/grad/"  # in the names of all nodes that an emitter appends

Array = npt.NDArray[Any]
Attribute = ir.Attr | int | float | str | Sequence[int] | ir.TensorProtocol


class Emitter:
    """Appends nodes to `graph`; constants become shared initializers named `bw.*`.

    Raises:
        UnsupportedModel: The graph is older than opset 16.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.opset = graph.opset_imports.get("", 0)
        self.scope = "grad"
        if self.opset < MINIMUM_OPSET:
            raise UnsupportedModel(
                f"Expected ONNX opset {MINIMUM_OPSET} or newer to differentiate, found {self.opset}; "
                "convert the model to opset 18."
            )
        self._count = 0
        self._names = {name for named in (*graph, *_values(graph)) if (name := named.name)}
        self._constants = {
            _key(value.const_value.numpy(), value.const_value.dtype): value
            for name, value in graph.initializers.items()
            if name.startswith(PREFIX) and value.const_value is not None
        }

    # --- nodes and constants

    def emit(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        dims: Dims,
        dtype: ir.DataType,
        attributes: Mapping[str, Attribute] | None = None,
        *,
        domain: str = "",
    ) -> ir.Value:
        """Append one node with one output of shape `dims` and type `dtype`."""
        name = self.fresh(f"{self.scope}{BACKWARD}{op_type}")
        output = ir.val(f"{name}:0", dtype, list(dims))
        self.graph.append(ir.node(op_type, inputs, attributes, domain=domain, outputs=[output], name=name))
        if domain:
            self.graph.opset_imports.setdefault(domain, 1)
        return output

    def fresh(self, stem: str) -> str:
        """A name that no node and no value of the graph has; onnxruntime refuses two nodes of one name."""
        while True:
            self._count += 1
            name = f"{stem}_{self._count}"
            if name not in self._names and f"{name}:0" not in self._names:
                self._names.add(name)
                return name

    def constant(self, array: Array, dtype: ir.DataType) -> ir.Value:
        """A small initializer; equal ones are one."""
        array = np.asarray(array, dtype=dtype.numpy())
        key = _key(array, dtype)
        if key not in self._constants:
            value = ir.val(self.fresh(f"{PREFIX}c"), const_value=ir.tensor(array, dtype=dtype))
            self.graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]

    def scalar(self, number: float, dtype: ir.DataType) -> ir.Value:
        """A rank-0 constant."""
        return self.constant(np.array(number), dtype)

    def ints(self, numbers: Sequence[int]) -> ir.Value:
        """A one-dimensional int64 constant: axes, shapes, pads."""
        return self.constant(np.array(numbers, dtype=np.int64), ir.DataType.INT64)

    def again(self, weight: ir.Value) -> ir.Value:
        """`weight`, dequantized once more if it is a dequantized constant.

        One DequantizeLinear that served forward and backward would keep the float weight alive for the
        whole step; each use has its own, just before it.
        """
        node = weight.producer()
        if node is None or node.op_type != "DequantizeLinear":
            return weight
        if not all(value is None or is_constant(value) for value in node.inputs):
            return weight
        return self.emit(
            node.op_type, node.inputs, dims_of(weight), dtype_of(weight), dict(node.attributes), domain=node.domain
        )


def _key(array: Array, dtype: ir.DataType) -> tuple[ir.DataType, tuple[int, ...], bytes]:
    return dtype, array.shape, array.tobytes()


def _values(graph: ir.Graph) -> list[ir.Value]:
    made = [value for node in graph for value in node.outputs]
    return [*graph.inputs, *graph.initializers.values(), *made]
