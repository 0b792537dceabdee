"""If, Loop and Scan: one node each for whatever cuts, quantizes or adapts; what they hold, and their weights outside.

Nothing is cut, quantized or adapted inside a body. So that every weight counts where it is read, and is written into
the weight file once, the large ones of bodies are moved out, where the body goes on reading them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from console.table import shown, size
from export.values import bodies, is_weight, reads

SHOWN = 3
# what is smaller stays: shape inference looks up axes and shapes inside a body in that body alone
SMALLEST_BYTES = 1024


def graphs_inside(node: ir.Node) -> Iterator[ir.Graph]:
    """The bodies of a node, and of the nodes in them."""
    for body in bodies(node):
        yield body
        for inner in body:
            yield from graphs_inside(inner)


def lift_weights(graph: ir.Graph) -> int:
    """Move the large initializers of all bodies to the graph itself, in place; how many were moved."""
    inside = [body for node in graph for body in graphs_inside(node)]
    taken = {value.name for each in (graph, *inside) for value in _named(each)}
    moved = 0
    for body in inside:
        for name, value in list(body.initializers.items()):
            if value.const_value is None or value.const_value.nbytes < SMALLEST_BYTES or value.is_graph_input():
                continue
            body.initializers.pop(name)
            value.name = name if name not in graph.initializers else _free(name, taken)
            taken.add(value.name)
            graph.register_initializer(value)
            moved += 1
    return moved


def held(graph: ir.Graph) -> list[str]:
    """Every node with bodies, the one with most weights first: operator, name and bytes of weights, in words."""
    found = [(_weight_bytes(node), node) for node in graph if bodies(node)]
    ordered = sorted(found, key=lambda pair: -pair[0])
    words = [
        f"{node.op_type} '{shown(node.name)}'" + (f" ({size(weight_bytes)} of weights)" if weight_bytes else "")
        for weight_bytes, node in ordered
    ]
    return words if len(words) <= SHOWN else [*words[:SHOWN], f"{len(words) - SHOWN} more"]


def _weight_bytes(node: ir.Node) -> int:
    own = [value for body in graphs_inside(node) for value in body.initializers.values()]
    taken = [value for value in dict.fromkeys(reads(node)) if is_weight(value)]
    made = [inner for body in graphs_inside(node) for inner in body if inner.op_type == "Constant" and not inner.domain]
    tensors = (inner.attributes["value"].as_tensor().nbytes for inner in made if "value" in inner.attributes)
    return sum(value.const_value.nbytes for value in (*own, *taken) if value.const_value is not None) + sum(tensors)


def _named(graph: ir.Graph) -> Iterable[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _free(name: str, taken: set[str | None]) -> str:
    number = 1
    while f"{name}.{number}" in taken:
        number += 1
    return f"{name}.{number}"
