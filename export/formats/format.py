"""What a format is to the rewriting: whether it takes a weight, what it stores, and the nodes that read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.edit import Edit
from export.formats.grid import Grid
from export.formats.layout import Layout
from quant.loss import Error
from quant.matrix import Float32

Arrays = Mapping[str, NDArray[Any]]
Tensors = Mapping[str, NDArray[Any] | ir.TensorProtocol]


@dataclass(frozen=True)
class Stored:
    """A weight in its format: tensors by the ends of their names.

    `source` keeps the tensor alive by whose identity it is known; `lost` is what the format lost of it.
    """

    source: ir.TensorProtocol
    tensors: Mapping[str, ir.TensorProtocol]
    lost: Error


class Parts:
    """The tensors of a weight as initializers of one graph, put in when they are first asked for."""

    def __init__(self, graph: ir.Graph, name: str, stored: Stored) -> None:
        self.graph, self.name, self.stored = graph, name, stored

    def __contains__(self, end: str) -> bool:
        return end in self.stored.tensors

    def __call__(self, end: str) -> ir.Value:
        """The initializer of that end."""
        full = f"{self.name}.{end}"
        if full not in self.graph.initializers:
            self.graph.register_initializer(ir.val(full, const_value=self.stored.tensors[end]))
        return self.graph.initializers[full]


class Format(Protocol):
    """One way to store weights."""

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def instead(self) -> str:
        """The format of what this one cannot take."""

    def refuses(self, layout: Layout, grid: Grid) -> str:
        """Why it cannot take a weight; empty if it can."""

    def stored_bytes(self, layout: Layout, grid: Grid) -> int:
        """What it stores, in bytes."""

    def store(self, rows: Float32, layout: Layout, grid: Grid, inputs: Float32 | None) -> Tensors:
        """Quantize.

        Args:
            rows: [rows, columns], may be a transposed view of a mapped file.
            layout: what they are rows of.
            grid: settings.
            inputs: what the layer was fed, [n, columns], where that is known.

        Raises:
            ValueError: NaN or infinity.
        """

    def restore(self, parts: Arrays, layout: Layout, grid: Grid) -> Float32:
        """[rows, columns] by numpy, from the tensors of a graph, whichever of them it has."""

    def dequantize(self, edit: Edit, parts: Parts, layout: Layout, grid: Grid) -> ir.Value:
        """Nodes that give [rows, columns] in float32."""

    def multiply(
        self, edit: Edit, x: ir.Value, parts: Parts, layout: Layout, grid: Grid, like: ir.Value
    ) -> ir.Value | None:
        """One node for x rows^T, if the runtime has one that takes the bytes as they are."""

    def look_up(self, edit: Edit, parts: Parts, ids: ir.Value, layout: Layout, grid: Grid, like: ir.Value) -> ir.Value:
        """Rows of a table by number, never the whole table in float."""


def tensors_of(name: str, parts: Tensors) -> dict[str, ir.TensorProtocol]:
    """Arrays as tensors with full names."""
    out: dict[str, ir.TensorProtocol] = {}
    for end, part in parts.items():
        out[end] = ir.tensor(part, name=f"{name}.{end}") if isinstance(part, np.ndarray) else part
    return out


def typed(value: ir.Value, dtype: ir.DataType, shape: tuple[int, ...] | None = None) -> ir.Value:
    """The same value with its type, and its shape where given."""
    value.type = ir.TensorType(dtype)
    if shape is not None:
        value.shape = ir.Shape(list(shape))
    return value
