"""Cheap results of the forward pass are made again for the backward pass, where what they are made of is there anyway.

Chen, Xu, Zhang and Guestrin, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174, section 3: results of
low cost are dropped and computed once more. Here only where that keeps nothing else alive: of a gated unit
`x sigmoid(x) y` only x and y stay, and nothing is computed twice but an elementwise operator or a transposition. The
numbers are the same to the bit.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from fractions import Fraction

import onnx_ir as ir

from export.gradient.dims import FLOATS, dims_of, dtype_of
from export.gradient.emitter import BACKWARD
from export.values import value_bytes

CHEAP = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Sigmoid", "Tanh", "Relu", "Transpose"})
Places = dict[ir.Node, Fraction]  # in the order of the run; there is always one between two
LEAST_BYTES = 1024  # of a result; shorter ones are not worth a node


def make_again(graph: ir.Graph, forward: int) -> int:
    """Put cheap nodes of the forward pass a second time before their first use in the backward pass, in place.

    Args:
        graph: of a backward graph, in execution order.
        forward: how many of its nodes, the first ones, are the forward pass.

    Returns:
        How many were put there.
    """
    nodes = list(graph)
    places = {node: Fraction(at) for at, node in enumerate(nodes)}
    taken = list(places.values())
    made = 0
    for node in reversed(nodes[:forward]):
        late = _late(node, places, forward)
        if late is None or not _there(node, late, places):
            continue
        old = node.outputs[0]
        new = ir.val(f"{old.name}{BACKWARD}again", dtype_of(old), list(dims_of(old)))
        twin = ir.node(
            node.op_type, node.inputs, dict(node.attributes), domain=node.domain, outputs=[new], name=str(new.name)
        )
        for use in list(old.uses()):
            if places[use.node] >= forward:
                use.node.replace_input_with(use.idx, new)
        graph.insert_before(late, twin)
        places[twin] = (taken[bisect_left(taken, places[late]) - 1] + places[late]) / 2
        insort(taken, places[twin])
        made += 1
    return made


def _late(node: ir.Node, places: Places, forward: int) -> ir.Node | None:
    """The first backward node that reads what a cheap node makes; None where it is to be kept."""
    if node.domain or node.op_type not in CHEAP or len(node.outputs) != 1:
        return None
    value = node.outputs[0]
    if value.is_graph_output() or value.dtype not in FLOATS or value_bytes(value) < LEAST_BYTES:
        return None
    readers = [use.node for use in value.uses()]
    if any(reader not in places for reader in readers):  # inside the body of a Loop
        return None
    late = [reader for reader in readers if places[reader] >= forward]
    return min(late, key=places.__getitem__, default=None)


def _there(node: ir.Node, late: ir.Node, places: Places) -> bool:
    """Whether everything that a node reads is alive when a later one runs, also without it."""
    for value in node.inputs:
        if value is None or value.producer() is None or value.is_graph_output():
            continue
        others = [places[use.node] for use in value.uses() if use.node is not node and use.node in places]
        if max(others, default=Fraction(-1)) < places[late]:
            return False
    return True
