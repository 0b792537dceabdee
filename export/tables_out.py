"""Embedding tables out of the graph: what a Gather made becomes an input, whose rows the runner reads from a file.

    before   x = Gather(W, ids)        W an initializer [rows, columns], ids an input of the model
    after    x = the input table.W.rows, float32, which quant.rows makes from ids and the file of W

It is done on the frozen model, so that whatever is made of it (cuts, backward graphs, graphs without slots) has the
same input. A table is frozen: no gradient goes into it, and none is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.edit import redirect
from export.gradient.dims import Dim, dims_of
from export.gradient.present import present
from export.values import FED_AS, is_weight
from quant.rows import Tables
from quant.table_files import in_memory
from quant.tables import PlainRows
from wire.tables import Lookup

SMALLEST_BYTES = 1 << 20  # below this a table costs less than a file and an input of its own
# what hands the numbers of ids on, in their order
CARRIERS = frozenset({"Cast", "Reshape", "Identity", "Unsqueeze", "Squeeze", "Flatten"})
INTEGERS = (ir.DataType.INT32, ir.DataType.INT64)


@dataclass(frozen=True)
class Source:
    """A table that was taken out of a model: its name, its numbers and where its rows go."""

    weight: str
    tensor: ir.TensorProtocol
    lookups: tuple[Lookup, ...]


@dataclass(frozen=True)
class Taken:
    """What became of the tables of a model: those that are out, and why others that are as large stay in."""

    sources: tuple[Source, ...] = ()
    stayed: tuple[tuple[str, str], ...] = ()  # weight, reason

    @property
    def ids(self) -> dict[str, str]:
        """The model's input of ids by the input that is rows."""
        return {lookup.input: lookup.ids for source in self.sources for lookup in source.lookups}

    def exact(self) -> Tables:
        """All of them in float32, as the model had them."""
        opened = [(s, in_memory(s.weight, PlainRows(np.asarray(s.tensor.numpy(), np.float32)))) for s in self.sources]
        return Tables({lookup.input: (lookup.ids, table) for s, table in opened for lookup in s.lookups})


def take_out(model: ir.Model) -> Taken:
    """Replace every large table by inputs for its rows, in place.

    Args:
        model: frozen. Inputs of ids that nothing reads afterwards are gone.

    Returns:
        What is out, in the order of the initializers, and the large tables that stay: those that something else than
        a Gather along their rows reads (a tied output layer), or whose ids the graph makes itself.
    """
    graph = model.graph
    sources, stayed = list[Source](), list[tuple[str, str]]()
    for table in list(graph.initializers.values()):
        if not _is_large(table) or not any(_is_lookup(use.node, use.idx) for use in table.uses()):
            continue
        reason = _why_not(graph, table)
        if reason:
            stayed.append((str(table.name), reason))
        else:
            sources.append(_take(graph, table))
    if sources:
        RemoveUnusedNodesPass()(model)
        asked = {lookup.ids for source in sources for lookup in source.lookups}
        for value in [v for v in graph.inputs if v.name in asked and not v.uses() and not v.is_graph_output()]:
            graph.inputs.remove(value)
    return Taken(tuple(sources), tuple(stayed))


def _is_large(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or not is_weight(value) or value.dtype != ir.DataType.FLOAT:
        return False
    return len(tensor.shape) == 2 and tensor.nbytes >= SMALLEST_BYTES


def _is_lookup(node: ir.Node, index: int) -> bool:
    return node.op_type == "Gather" and not node.domain and index == 0 and node.attributes.get_int("axis", 0) == 0


def _why_not(graph: ir.Graph, table: ir.Value) -> str:
    """Why a table stays in the graph; empty when it need not."""
    readers = [use.node for use in table.uses() if _is_lookup(use.node, use.idx)]
    others = [use.node.op_type for use in table.uses() if not _is_lookup(use.node, use.idx)]
    product = any("MatMul" in name or name == "Gemm" for name in others)
    reasons = {
        "it is tied: a product reads it as well": product,
        f"{' and '.join(sorted(set(others)))} reads it as well": bool(others),
        "it is an output of the model": table.is_graph_output(),
        "it is read inside the body of a control-flow node": any(node.graph is not graph for node in readers),
        "its rows are an output of the model": any(node.outputs[0].is_graph_output() for node in readers),
        "its ids are made in the graph": any(_ids(graph, node) is None for node in readers),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _ids(graph: ir.Graph, node: ir.Node) -> ir.Value | None:
    """The input of the model whose numbers a Gather reads by, in their order; None if there is none."""
    value = node.inputs[1]
    while value is not None and not value.is_graph_input():
        maker = value.producer()
        if maker is None or maker.domain or maker.op_type not in CARRIERS:
            return None
        value = maker.inputs[0]
    fed = value is not None and value in graph.inputs and not value.is_initializer() and value.dtype in INTEGERS
    return value if fed else None


def _take(graph: ir.Graph, table: ir.Value) -> Source:
    name, inputs = str(table.name), dict[tuple[str, tuple[Dim, ...]], ir.Value]()
    for node in [use.node for use in table.uses()]:
        rows, ids = node.outputs[0], present(_ids(graph, node)).name or ""
        key = (ids, dims_of(rows))
        if key not in inputs:
            again = f".{len(inputs)}" if inputs else ""
            inputs[key] = ir.val(f"table.{name}.rows{again}", ir.DataType.FLOAT, list(dims_of(rows)))
            inputs[key].meta[FED_AS] = _ids(graph, node)
            graph.inputs.append(inputs[key])
        redirect(rows, inputs[key])
        graph.remove(node, safe=True)
    graph.initializers.pop(name)
    lookups = tuple(Lookup(str(value.name), ids) for (ids, _), value in inputs.items())
    return Source(name, present(table.const_value), lookups)
