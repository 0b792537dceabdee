"""Which nodes read the weights that are to become integers, and which weights no tool can take."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from console.errors import UnsupportedModel, UsageError
from export.gemm import split_gemm
from export.linears import constant
from export.mapped import reading
from quant.loss import BLOCK_ROWS


@dataclass(frozen=True)
class Readers:
    """Nodes to quantize, in file order; all names of weights as they were given; why some stay as they are."""

    nodes: list[ir.Node]
    names: list[str]
    left: dict[str, str]

    @property
    def taken(self) -> list[str]:
        """The weights that the nodes read."""
        return [name for name in self.names if name not in self.left]

    def of(self, op_type: str) -> list[str]:
        """Names of the nodes of one operator."""
        return [str(node.name) for node in self.nodes if node.op_type == op_type]


def readers(model: ir.Model, weights: Collection[str]) -> Readers:
    """Prepare a graph for the tools, in place: Gemm of a named weight becomes MatMul, and its readers get names.

    Args:
        model: a graph without slots.
        weights: names of initializers; one that a Gemm reads transposed is found under its new name too.

    Raises:
        UsageError: a name that is no initializer of the graph.
        UnsupportedModel: a weight holds NaN or infinity.
    """
    unknown = [name for name in weights if name not in model.graph.initializers]
    if unknown:
        raise UsageError(f"expected names of weights of the graph, found {', '.join(sorted(unknown))}")
    graph = model.graph
    split_gemm(model, [name for name in weights if _one_way(graph.initializers[name])])
    nodes: dict[ir.Node, None] = {}
    names, left = [], {}
    for name in weights:
        now = f"{name}.t" if f"{name}.t" in graph.initializers else name
        if now != name and not graph.initializers[name].uses():
            del graph.initializers[name]
        weight = graph.initializers[now]
        names.append(now)
        reason = _why_not(graph, weight)
        if reason:
            left[now] = reason
        else:
            _check_numbers(weight)
            nodes |= dict.fromkeys(use.node for use in weight.uses())
    found = [node for node in graph if node in nodes]
    _name(graph, found)
    return Readers(found, names, left)


def _one_way(weight: ir.Value) -> bool:
    """Whether all that read a weight are Gemms that read it alike, so that it need not be stored twice."""
    ways = {(use.node.op_type, use.node.attributes.get_int("transB", 0)) for use in weight.uses()}
    return len(ways) == 1 and next(iter(ways))[0] == "Gemm"


def _why_not(graph: ir.Graph, weight: ir.Value) -> str:
    """Why a weight cannot become integers; empty when it can."""
    tensor = weight.const_value
    if tensor is None or weight.is_graph_input():
        return "its values can be fed"
    if weight.is_graph_output():
        return "an output of the graph"
    if tensor.dtype != ir.DataType.FLOAT:
        return f"of the type {tensor.dtype.name}"
    problems = {_reason(graph, use.node, use.idx, len(tensor.shape)) for use in weight.uses()} - {""}
    if not weight.uses():
        return "nothing reads it"
    return f"read as {', '.join(sorted(problems))}" if problems else ""


def _reason(graph: ir.Graph, node: ir.Node, index: int, rank: int) -> str:
    if node.graph is not graph:
        return f"input {index} of {node.op_type} inside a body"
    if node.domain or index != 1 or node.op_type not in {"MatMul", "Conv"}:
        return f"input {index} of {node.op_type}"
    if constant(node.inputs[0]) is not None:
        return f"a factor of another constant in {node.op_type}"
    if node.op_type == "MatMul" and rank != 2:
        return f"a batch of matrices of {node.op_type}"
    return ""


def _check_numbers(weight: ir.Value) -> None:
    tensor = weight.const_value
    if tensor is None:
        return
    with reading(tensor) as w:
        for start in range(0, len(w), BLOCK_ROWS):
            if not np.isfinite(w[start : start + BLOCK_ROWS]).all():
                raise UnsupportedModel(
                    f"expected numbers in the weight {weight.name}, found NaN or infinity; train or export it again"
                )


def _name(graph: ir.Graph, nodes: list[ir.Node]) -> None:
    """The tools know nodes by name: names are given where there are none, and made different."""
    taken = {node.name for node in graph if node not in nodes}
    for node in nodes:
        base = node.name or f"{node.outputs[0].name}/{node.op_type}"
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        node.name = name
