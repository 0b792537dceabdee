"""How nodes read a weight, and which of its axes are the rows that formats store."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

MICROSOFT = "com.microsoft"

Role = Literal["product", "transposed product", "table", "filter", "batched product", "transposed batched product"]
Kind = Literal["matrix", "table", "filter", "batch"]


@dataclass(frozen=True)
class Layout:
    """The shape of a weight, and what it is.

    Rows are what has a scale of its own, and what is stored: output channels of a matrix [in, out], entries of a
    table [rows, columns], filters [out, in, ...], output channels of each matrix of a batch [..., in, out].
    """

    kind: Kind
    shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How many."""
        if self.kind == "matrix":
            return self.shape[1]
        return self.shape[0] if self.kind in {"table", "filter"} else math.prod(self.shape) // self.shape[-2]

    @property
    def columns(self) -> int:
        """Numbers in each."""
        return math.prod(self.shape) // self.rows

    def to_rows(self, weight: NDArray[Any]) -> NDArray[Any]:
        """The weight as [rows, columns]; a view where it can be."""
        if self.kind == "matrix":
            turned: NDArray[Any] = weight.T
        elif self.kind == "batch":
            turned = np.swapaxes(weight, -1, -2)
        else:
            turned = weight
        return turned.reshape(self.rows, self.columns)

    def from_rows(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The weight again."""
        if self.kind == "matrix":
            return np.ascontiguousarray(rows.T)
        if self.kind == "batch":
            return np.ascontiguousarray(np.swapaxes(rows.reshape(self.turned), -1, -2))
        return rows.reshape(self.shape)

    @property
    def turned(self) -> tuple[int, ...]:
        """The shape of a batch with its last two axes exchanged, as rows lie in it."""
        return (*self.shape[:-2], self.shape[-1], self.shape[-2])


def role_of(node: ir.Node, index: int) -> Role | str:
    """How a node reads a weight; for readers that need it as it is, their description."""
    weight = node.inputs[index]
    flat = weight is None or weight.shape is None or len(weight.shape) == 2
    if node.op_type == "Gather" and not node.domain and index == 0 and node.attributes.get_int("axis", 0) == 0:
        return "table"
    if node.op_type in {"Conv", "ConvTranspose"} and not node.domain and index == 1:
        return "filter"
    if node.op_type == "MatMul" and not node.domain and index == 1:
        return "product" if flat else "batched product"
    batched = any(node.attributes.get_int(name, 0) for name in ("transBatchA", "transBatchB"))
    if node.op_type == "FusedMatMul" and node.domain == MICROSOFT and index == 1 and not batched:
        turned = bool(node.attributes.get_int("transB", 0))
        if flat:
            return "transposed product" if turned else "product"
        return "transposed batched product" if turned else "batched product"
    return f"input {index} of {node.op_type}"


PRODUCTS = frozenset({"product", "transposed product"})
BATCHED = frozenset({"batched product", "transposed batched product"})


def layout_of(shape: tuple[int, ...], roles: set[str]) -> Layout | str:
    """What a weight is by its readers, or why it has to stay as it is."""
    others = sorted(roles - {*PRODUCTS, *BATCHED, "table", "filter"})
    if others:
        return f"read as {', '.join(others)}"
    if len(shape) == 2 and "table" in roles and "product" in roles:
        return "read both as a table and as a matrix [in, out]"
    if len(shape) == 2 and roles <= {*PRODUCTS, "table"}:
        return Layout("table" if "table" in roles else "matrix", shape)
    if roles == {"filter"}:
        return Layout("filter", shape)
    if roles <= BATCHED and len(shape) > 2:
        return Layout("batch", shape)
    return f"{len(shape)} dimensions, read as {', '.join(sorted(roles))}"
