"""Weights of a finished graph in their formats: each use reads what is stored by nodes of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel
from export.edit import Edit, replace
from export.formats.format import Format, Parts, typed
from export.formats.grid import Grid
from export.formats.layout import MICROSOFT, Layout, layout_of, role_of
from export.formats.registry import stored_as
from export.formats.report import WeightReport
from export.formats.stock import Stock
from export.gemm import split_gemm
from export.gradient.present import present

# entries; below this the scales and one more node cost more than the bytes are worth
SMALLEST = 1024
ASKED, CHOSEN = "fp32 was asked for", "fp32 was chosen for it"

Formats = str | Mapping[str, str]


@dataclass(frozen=True)
class Weight:
    """A float weight of two dimensions or more, what it is, and why it is nothing that a format takes."""

    value: ir.Value
    layout: Layout | None
    reason: str

    @property
    def name(self) -> str:
        """Of the initializer."""
        return str(self.value.name)

    @property
    def nbytes(self) -> int:
        """In 32 bits."""
        return 0 if self.value.const_value is None else self.value.const_value.nbytes


def quantize_weights(
    model: ir.Model, formats: Formats, stock: Stock | None = None, *, backward: bool = False
) -> list[WeightReport]:
    """Rewrite the weights of a finished graph, in place.

    Args:
        model: a frozen graph or a backward graph made from one: its weights are [in, out].
        formats: one for all weights, or by the name of the weight, where those without stay fp32.
        stock: pass one for all graphs of a model: each weight is then quantized once, and graphs share the tensors.
        backward: whether weights are restored before every product, by nodes that both directions have.

    Returns:
        A report for every float weight of two dimensions or more, in the order of the graph's initializers.
        Vectors (biases, norms) always stay fp32 and are not listed.

    Raises:
        UsageError: an unknown format.
        UnsupportedModel: a weight holds NaN or infinity.
    """
    stock = Stock() if stock is None else stock
    if formats != "fp32":
        split_gemm(model)
    reports = []
    for weight in weights_of(model):
        found, reason = decide(weight, asked_for(weight, formats), stock.grid)
        reason = CHOSEN if reason == ASKED and not isinstance(formats, str) else reason
        if found is None or weight.layout is None:
            reports.append(WeightReport(weight.name, "fp32", weight.nbytes, weight.nbytes, reason=reason))
        else:
            reports.append(_quantize(model.graph, weight, weight.layout, found, stock, backward, reason))
    return reports


def weights_of(model: ir.Model) -> list[Weight]:
    """The float weights of two dimensions or more that something reads."""
    out = []
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or value.is_graph_input() or not value.uses():
            continue
        if value.dtype == ir.DataType.FLOAT and len(tensor.shape) >= 2:
            out.append(_weight(model.graph, value, tuple(int(d) for d in tensor.shape.numpy())))
    return out


def _weight(graph: ir.Graph, value: ir.Value, shape: tuple[int, ...]) -> Weight:
    if int(np.prod(shape)) < SMALLEST:
        return Weight(value, None, f"fewer than {SMALLEST} entries")
    roles = {
        role_of(use.node, use.idx)
        if use.node.graph is graph
        else f"input {use.idx} of {use.node.op_type} inside a body"
        for use in value.uses()
    }
    layout = layout_of(shape, roles)
    return Weight(value, None, layout) if isinstance(layout, str) else Weight(value, layout, "")


def asked_for(weight: Weight, formats: Formats) -> str:
    """The format that is asked for: that of all weights, or its own; fp32 where no format was found for it."""
    return formats if isinstance(formats, str) else formats.get(weight.name, "fp32")


def decide(weight: Weight, asked: str, grid: Grid) -> tuple[Format | None, str]:
    """The format that a weight gets, None for fp32, and why it is not the one that was asked for."""
    if weight.layout is None or asked == "fp32":
        return None, weight.reason or ASKED
    return stored_as(asked, weight.layout, grid)


def _quantize(
    graph: ir.Graph, weight: Weight, layout: Layout, fmt: Format, stock: Stock, backward: bool, reason: str
) -> WeightReport:
    tensor = weight.value.const_value
    if tensor is None:
        raise UnsupportedModel(f"expected the weight {weight.name} to have values, found none; export it again")
    stored = stock.get(weight.name, tensor, layout, fmt)
    parts = Parts(graph, weight.name, stored)
    for use in list(weight.value.uses()):
        _Use(graph, use.node, parts, layout, fmt, stock.grid).rewrite(str(role_of(use.node, use.idx)), backward)
    graph.initializers.pop(weight.name)
    size, lost = fmt.stored_bytes(layout, stock.grid), stored.lost
    return WeightReport(weight.name, fmt.name, tensor.nbytes, size, lost.relative, lost.sqnr_db, reason, layout)


@dataclass(frozen=True)
class _Use:
    """One node that reads a weight."""

    graph: ir.Graph
    node: ir.Node
    parts: Parts
    layout: Layout
    fmt: Format
    grid: Grid

    def rewrite(self, role: str, backward: bool) -> None:
        """Let it read what is stored."""
        node = self.node
        edit = Edit(self.graph, f"{node.name or node.outputs[0].name}/{self.fmt.name}")
        if role == "filter":
            weight = self._shaped(edit, self.layout.shape)
            edit.put_before(node)
            node.replace_input_with(1, weight)
        elif role == "table":
            ids, like = present(node.inputs[1]), node.outputs[0]
            replace(node, edit, self.fmt.look_up(edit, self.parts, ids, self.layout, self.grid, like))
        else:
            replace(node, edit, self._product(edit, backward))

    def _product(self, edit: Edit, backward: bool) -> ir.Value:
        node, table = self.node, self.layout.kind == "table"
        # stored transposed, unless it is a table: what was W^T is now plain, and what was plain is now transposed
        trans_b = node.attributes.get_int("transB", 0)
        trans_b = trans_b if table else 1 - trans_b
        trans_a, alpha = node.attributes.get_int("transA", 0), node.attributes.get_float("alpha", 1.0)
        x, y = present(node.inputs[0]), node.outputs[0]
        if trans_b and not (trans_a or backward) and alpha == 1.0:
            product = self.fmt.multiply(edit, x, self.parts, self.layout, self.grid, y)
            if product is not None:
                return product
        batch = self.layout.kind == "batch"
        weight = self._shaped(edit, self.layout.turned if batch else (self.layout.rows, self.layout.columns))
        if trans_a or trans_b or alpha != 1.0:
            flags = {"transA": trans_a, "transB": trans_b, "alpha": alpha}
            return edit.op("FusedMatMul", x, weight, attributes=flags, domain=MICROSOFT, like=y)
        return edit.op("MatMul", x, weight, like=y)

    def _shaped(self, edit: Edit, shape: tuple[int, ...]) -> ir.Value:
        """The weight in float32."""
        weight = self.fmt.dequantize(edit, self.parts, self.layout, self.grid)
        if shape == (self.layout.rows, self.layout.columns):
            return weight
        return typed(edit.op("Reshape", weight, edit.constant("shape", shape, np.int64)), ir.DataType.FLOAT, shape)
