"""Where a model may be cut."""

from __future__ import annotations

import onnx_ir as ir

from export.control import held
from export.cut import crossing
from export.features import CALLED, LOGITS
from export.output_parts import parts_of
from export.values import constant_nodes

MOST_CROSSING = 16  # tensors; a cut that more of them cross is inside something that belongs together


def legal_cuts(graph: ir.Graph) -> list[int]:
    """Positions between two nodes where at most `MOST_CROSSING` tensors cross.

    Features and logits of a head stay together in the last segment; other outputs leave where they are made. A
    cut never lies inside If, Loop or Scan, which are one node here, nor between a Softmax and what replaces its NaN,
    nor in an output layer that is in parts, nor between what reads one input of a slot and what reads another. What is
    made from weights alone is free: it does not cross.
    """
    free = constant_nodes(graph)
    paid = [index for index, node in enumerate(graph) if node not in free]
    names = {value.name for value in graph.outputs}
    features = names.intersection(CALLED)
    together = {*features, LOGITS} if features and LOGITS in names else set()
    made = [i for i, node in enumerate(graph) if any(v.name in together for v in node.outputs)]
    whole = [*guarded(graph), *_output_parts(graph), *_slot_spans(graph)]
    positions = [
        p for p in paid[1:] if p <= min(made, default=len(graph)) and not any(at < p <= end for at, end in whole)
    ]
    crossed = crossing(graph, positions)
    return [p for p, values in zip(positions, crossed, strict=True) if 0 < len(values) <= MOST_CROSSING]


def guarded(graph: ir.Graph) -> list[tuple[int, int]]:
    """Where each Softmax is and the last selection over it: `Where(IsNaN(y), 0, y)` belongs to y.

    The gradient of a row that is masked as a whole needs both: NaN times the zero that comes back is NaN.
    """
    index_of = {node: index for index, node in enumerate(graph)}
    found = []
    for node, at in index_of.items():
        if node.op_type == "Softmax":
            selections = [index_of[n] for n in node.outputs[0].consumers() if n.op_type == "Where" and n in index_of]
            found.append((at, max(selections, default=at)))
    return found


def _output_parts(graph: ir.Graph) -> list[tuple[int, int]]:
    """Where an output layer in parts begins and ends: its loss wants all of them."""
    index_of = {node: index for index, node in enumerate(graph)}
    found = []
    for value in graph.outputs:
        parts, last = parts_of(value), value.producer()
        if parts is not None and last is not None:
            found.append((min(index_of[node] for node in parts.products), index_of[last]))
    return found


def _slot_spans(graph: ir.Graph) -> list[tuple[int, int]]:
    """Stretches in which a cut would leave a segment with some inputs of a slot, and not all of them.

    A slot that several layers share may be cut between them: both segments take all of it.
    """
    index_of = {node: index for index, node in enumerate(graph)}
    read: dict[str, list[list[int]]] = {}
    for value in graph.inputs:
        places = [index_of[node] for node in value.consumers() if node in index_of]
        if (value.name or "").startswith("slot.") and places:
            read.setdefault(str(value.name).rpartition(".")[0], []).append(places)
    ends = [[edge(places) for places in parts] for parts in read.values() for edge in (min, max)]
    return [(min(places), max(places)) for places in ends if min(places) < max(places)]


def uncuttable(graph: ir.Graph) -> str:
    """What to say of a graph that holds control-flow nodes; empty if there is none."""
    inside = held(graph)
    return f"it has {' and '.join(inside)}, which cannot be cut inside" if inside else ""
