"""Segments of a model: the same nodes in the same order, with named and typed boundaries between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.convenience import extract

from export.gradient.dims import FLOATS
from export.gradient.path import reachable
from export.head import INPUTS as HEAD_INPUTS
from export.values import constant_nodes, reads

SEGMENT = "segment"


@dataclass(frozen=True)
class Segment:
    """A piece of the model.

    Attributes:
        name: `segment0`, `segment1`, ...; `front0`, ... of what is the front of a model.
        model: its forward graph. Inputs: the boundary before it, then the model inputs and slots that it reads.
        entering: names of the boundary before it.
        leaving: names of the boundary after it, and of the model's outputs that it makes.
        differentiable: those of `entering` whose gradient earlier segments need.
    """

    name: str
    model: ir.Model
    entering: tuple[str, ...]
    leaving: tuple[str, ...]
    differentiable: tuple[str, ...]

    @property
    def adapters(self) -> tuple[str, ...]:
        """The inputs `slot.NAME.A`, `slot.NAME.B` and `slot.NAME.bias`, in the order of the graph."""
        return tuple(name for name in _names(self.model.graph.inputs) if is_factor(name))

    @property
    def head(self) -> tuple[str, ...]:
        """The inputs of a head, if it is in this segment."""
        return tuple(name for name in _names(self.model.graph.inputs) if name in HEAD_INPUTS)

    @property
    def wanted(self) -> tuple[str, ...]:
        """What a backward graph must differentiate with respect to; empty if it is not needed."""
        return (*self.adapters, *self.head, *self.differentiable)


def is_factor(name: str) -> bool:
    """Whether a graph input is what a slot learns: a factor, or the change of a bias.

    >>> is_factor("slot.layer.0.query.A"), is_factor("slot.layer.0.query.scale"), is_factor("head.weight")
    (True, False, False)
    """
    return name.startswith("slot.") and name.endswith((".A", ".B", ".bias"))


def learns(name: str) -> bool:
    """Whether a graph input is what is trained: of a slot, or of the head.

    >>> learns("slot.layer.0.query.A"), learns("slot.layer.0.query.scale"), learns("head.weight")
    (True, False, True)
    """
    return is_factor(name) or name in HEAD_INPUTS


def crossing(graph: ir.Graph, positions: Sequence[int]) -> list[list[ir.Value]]:
    """What crosses each cut: values made before it and read at or after it, in the order they were made.

    Weights, model inputs and what depends on weights only do not cross: every segment gets its own.

    Args:
        graph: its nodes in execution order.
        positions: a cut at p lies between node p - 1 and node p.
    """
    free = constant_nodes(graph)
    made: dict[ir.Value, int] = {}
    last_read: dict[ir.Value, int] = {}
    for index, node in enumerate(graph):
        if node in free:
            continue
        made.update(dict.fromkeys(node.outputs, index))
        last_read.update((value, index) for value in reads(node) if value in made)
    return [[v for v, at in made.items() if at < p and last_read.get(v, -1) >= p] for p in positions]


def cut(
    model: ir.Model, positions: Sequence[int], called: Mapping[int, str] | None = None, prefix: str = SEGMENT
) -> list[Segment]:
    """Cut a model at some positions; the model is left as it is and weights are shared, not copied.

    A boundary tensor is called `cut<k>.<i>`, k counting cuts from 0, unless it is an output of the model as well,
    which keeps its name. What several cuts cross passes through the segments between, so that every segment reads
    only from the one before it. An output of the model leaves the segment that makes it.

    Args:
        model: a frozen forward model.
        positions: node positions, increasing, see `crossing`.
        called: what stands for `cut<k>` in the names of a boundary, by its position.
        prefix: of the segments' names.
    """
    graph, called = model.graph, called or {}
    boundaries: list[list[ir.Value]] = [[], *crossing(graph, positions), []]
    outputs = _outputs(graph, positions)
    segments: list[Segment] = []
    moving: set[str] = set()
    names: list[str] = []
    for k, made in enumerate(outputs):
        entering, crossed = boundaries[k], boundaries[k + 1]
        leaving = [*crossed, *(value for value in made if value not in crossed)]
        piece = _piece(model, entering, leaving, f"{prefix}{k}")
        for value, name in zip(piece.graph.inputs, names, strict=False):
            value.name = name
        border = called.get(positions[k], f"cut{k}") if crossed else ""
        names = [str(v.name) if v in made else f"{border}.{i}" for i, v in enumerate(crossed)]
        for i, name in enumerate(names):
            _name_output(piece.graph, i, name)
        here = _names(piece.graph.inputs[: len(entering)])
        differentiable = tuple(name for name in here if name in moving)
        segment = Segment(f"{prefix}{k}", piece, here, _names(piece.graph.outputs), differentiable)
        moving = _moving(segment)
        segments.append(segment)
    return segments


def _outputs(graph: ir.Graph, positions: Sequence[int]) -> list[list[ir.Value]]:
    """The model's outputs by the segment that makes them; what weights alone decide is made in the last."""
    free = constant_nodes(graph)
    place = {value: at for at, node in enumerate(graph) if node not in free for value in node.outputs}
    out: list[list[ir.Value]] = [[] for _ in range(len(positions) + 1)]
    for value in graph.outputs:
        at = place.get(value)
        out[-1 if at is None else sum(p <= at for p in positions)].append(value)
    return out


def _piece(model: ir.Model, entering: list[ir.Value], leaving: list[ir.Value], name: str) -> ir.Model:
    inputs = [value for value in model.graph.inputs if value not in leaving]
    graph = extract(model.graph, [*entering, *inputs], leaving)
    graph.name = name
    used = {value for node in graph for value in reads(node)}
    for position in reversed(range(len(entering), len(graph.inputs))):
        value = graph.inputs[position]
        if value not in used:
            graph.inputs.pop(position)
            graph.initializers.pop(value.name or "", None)
    functions = [function.clone() for function in model.functions.values()]
    return ir.Model(graph, ir_version=model.ir_version, functions=functions, producer_name="edgequilt")


def _name_output(graph: ir.Graph, position: int, name: str) -> None:
    """Name an output; what only passes through gets a node, because an input cannot be an output as well."""
    value = graph.outputs[position]
    if value.is_graph_input():
        node = ir.node("Identity", [value], name=f"pass/{name}")
        graph.append(node)
        passed = node.outputs[0]
        passed.shape, passed.type = value.shape, value.type
        graph.outputs[position] = value = passed
    value.name = name


def _moving(segment: Segment) -> set[str]:
    """Names of the float outputs that change smoothly with an adapter of this or of an earlier segment."""
    graph = segment.model.graph
    targets = [value for value in graph.inputs if value.name in segment.wanted]
    changed = reachable(graph, targets) if targets else set()
    return {value.name or "" for value in graph.outputs if value in changed and value.dtype in FLOATS}


def _names(values: Sequence[ir.Value]) -> tuple[str, ...]:
    return tuple(value.name or "" for value in values)
