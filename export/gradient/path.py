"""Which nodes lie between the targets and the seeds, and what stands in the way of their gradients."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from console.errors import UnsupportedModel, join
from export.gradient.dims import FLOATS, unknown_dims
from export.gradient.registry import STOPS, find


class NoGradientRule(UnsupportedModel):
    """Operators between the adapters and the loss that cannot be differentiated.

    Attributes:
        at: places of their nodes in the graph, in its order.
    """

    def __init__(self, message: str, at: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.at = at


class UnknownDimension(UnsupportedModel):
    """Values between the adapters and the loss whose shape is not known."""


@dataclass(frozen=True)
class Visit:
    """A node on the path, the inputs whose gradient is wanted, and the outputs that it comes from."""

    node: ir.Node
    wanted: frozenset[int]
    reached: frozenset[int]


def trace(graph: ir.Graph, seeds: Collection[ir.Value], targets: Collection[ir.Value]) -> list[Visit]:
    """The nodes on a path from a target and to a seed, in file order."""
    moving = reachable(graph, targets)
    reached = {value for value in seeds if value in moving}
    visits = []
    for node in reversed(graph):
        origins = frozenset(i for i, value in enumerate(node.outputs) if value in reached)
        if not origins:
            continue
        wanted = {i: v for i, v in enumerate(node.inputs) if v is not None and v in moving}
        reached.update(wanted.values())
        visits.append(Visit(node, frozenset(wanted), origins))
    return visits[::-1]


def reachable(graph: ir.Graph, targets: Collection[ir.Value]) -> set[ir.Value]:
    """Everything that changes smoothly when a target changes, the targets included.

    Indices that an operator with a rule returns beside its values are steps; what an operator without one makes of
    integers, as a quantization does, is not known.
    """
    moving = set(targets)
    for node in graph:
        if not _stops(node) and any(value in moving for value in _read(node)):
            moving.update(value for value in node.outputs if find(node) is None or value.dtype in {*FLOATS, None})
    return moving


def leading_to(graph: ir.Graph, output: ir.Value) -> set[ir.Value]:
    """Everything whose change changes an output smoothly, the output included."""
    found = {output}
    for node in reversed(graph):
        if not _stops(node) and any(value in found for value in node.outputs):
            found.update(_read(node))
    return found


def _stops(node: ir.Node) -> bool:
    if node.op_type == "Cast" and node.domain == "":
        return ir.DataType(node.attributes["to"].as_int()) not in FLOATS
    return node.domain == "" and node.op_type in STOPS


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """Inputs of a node, including what the bodies of If, Loop and Scan capture."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        bodies = (
            [attribute.as_graph()]
            if attribute.type == ir.AttributeType.GRAPH
            else attribute.as_graphs()
            if attribute.type == ir.AttributeType.GRAPHS
            else []
        )
        for body in bodies:
            yield from (value for node in body for value in _read(node))
            yield from body.outputs


def refuse_problems(visits: list[Visit]) -> None:
    """Stop before anything is emitted if a node on the path cannot be differentiated.

    Raises:
        NoGradientRule: Names every operator without a rule and every node of it.
        UnknownDimension: Names every value whose shape is neither numbers nor adapter ranks.
    """
    missing: dict[str, list[ir.Node]] = {}
    for visit in visits:
        problem = _problem(visit)
        if problem is not None:
            missing.setdefault(problem, []).append(visit.node)
    if missing:
        called = {p: [n.name or n.outputs[0].name or "unnamed" for n in nodes] for p, nodes in missing.items()}
        found = [f"{problem} (node {join(names, 8)})" for problem, names in called.items()]
        raise NoGradientRule(
            "Expected operators with a gradient rule between the adapters and the loss, found no rule for "
            f"{join(found)}. Without one a board still trains with `ridge`, a head on features, and with `spry`, which "
            "runs forward only: export with --mode train-forward, or with --mode serve to serve it.",
            _places({node for nodes in missing.values() for node in nodes}),
        )
    unknown = list(dict.fromkeys(text for visit in visits for text in _unknown(visit.node)))
    if unknown:
        raise UnknownDimension(
            f"Expected known shapes between the adapters and the loss, found unknown {join(unknown)}; "
            "fix the batch and the sequence length and fold shape arithmetic before differentiating."
        )


def _places(nodes: set[ir.Node]) -> tuple[int, ...]:
    graph = next(iter(nodes)).graph
    return tuple(place for place, node in enumerate(graph or ()) if node in nodes)


def _problem(visit: Visit) -> str | None:
    """What the registry cannot do at this node, beginning with the operator's name."""
    node = visit.node
    name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    entry = find(node)
    if entry is None:
        return name
    refused = set() if entry.inputs is None else visit.wanted - entry.inputs
    if refused:
        return f"{name} with respect to input {min(refused)}"
    if max(visit.reached) > 0 and not entry.every_output:
        return f"{name} with respect to output {max(visit.reached)}"
    if any(_unknown(node)):
        return None  # reported as unknown dimensions; checks need shapes
    reason = entry.check(node) if entry.check is not None else None
    return None if reason is None else f"{name} ({reason})"


def _unknown(node: ir.Node) -> Iterator[str]:
    for value in (*node.inputs, *node.outputs):
        if value is None or not value.name or value.dtype not in {*FLOATS, None}:
            continue
        problems = unknown_dims(value) if value.dtype is not None else ["the element type"]
        if problems and value.const_value is None:
            yield f"{', '.join(problems)} of '{value.name}' at {node.op_type} '{node.name}'"
