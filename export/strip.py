"""A model without its slots: what is served while no adapter is deployed, for slots cost time even when empty.

Every slot ends in an Add of what the layer makes and a change; at rank 0, or with a bias of zeros, the change is
zero. So what depends on slot inputs alone, or on a product with one, is followed up to that Add, and whoever read
the sum reads the layer. Weights, inputs and outputs keep their names: both graphs share one weight file.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from console.errors import UnsupportedModel
from export.values import reads

PREFIX = "slot."


def has_slots(model: ir.Model) -> bool:
    """Whether a graph has an input of a slot."""
    return any(_is_slot(value) for value in model.graph.inputs)


def strip_slots(model: ir.Model) -> ir.Model:
    """A copy of a forward graph without any slot; the model is left as it is, and weights are shared.

    Args:
        model: a graph as `insert_slots` makes it, frozen or not, or a segment of one.

    Raises:
        UnsupportedModel: a slot goes on beyond the graph (a cut goes through it).
    """
    stripped = model.clone()
    graph = stripped.graph
    slots = [value for value in graph.inputs if _is_slot(value)]
    vanishing = set(slots)
    for node in list(graph):
        gone = [value for value in reads(node) if value in vanishing]
        if not gone:
            continue
        kept = [value for value in node.inputs if value is not None and value not in vanishing]
        if node.op_type == "Add" and len(gone) == len(kept) == 1:
            _bypass(graph, node, kept[0])
        else:
            vanishing.update(node.outputs)
    beyond = [str(value.name) for value in graph.outputs if value in vanishing]
    if beyond:
        raise UnsupportedModel(f"expected slots that end inside the graph, found {', '.join(beyond)} leaving it")
    RemoveUnusedNodesPass()(stripped)
    for value in slots:
        graph.inputs.remove(value)
        graph.initializers.pop(str(value.name), None)
    return stripped


def _is_slot(value: ir.Value) -> bool:
    return (value.name or "").startswith(PREFIX)


def _bypass(graph: ir.Graph, total: ir.Node, base: ir.Value) -> None:
    """Whoever read the sum reads `base`; an output of the graph keeps its name, and is made by a node of its own."""
    old = total.outputs[0]
    for use in list(old.uses()):
        use.node.replace_input_with(use.idx, base)
    if not old.is_graph_output():
        return
    passed = ir.val(old.name or "")
    passed.type, passed.shape = old.type, old.shape
    old.name = f"{old.name}/with_slot"
    if base.producer() is not None and not base.is_graph_output() and not base.is_graph_input():
        base.name, passed = passed.name, base
    else:
        graph.append(ir.node("Identity", [base], outputs=[passed], name=f"pass/{passed.name}"))
    graph.outputs[list(graph.outputs).index(old)] = passed
