"""How much memory a finished graph has alive at once, by walking it as onnxruntime plans it.

With optimizations off and priority order, execution order is file order, so one walk over the file is exact in
principle. The rules are those of onnxruntime's allocation planner (onnxruntime/core/framework/
allocation_planner.cc): an alias has no memory of its own; some kernels write over an input at its last use;
a freed buffer goes to the next value of the same shape and lives on meanwhile.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import onnx_ir as ir

from export.gradient.dims import dims_of, dtype_of
from export.kernels import ALIASES, IN_PLACE, SCRATCH_FIRST, scratch
from export.values import COST_RANK, bodies, reads, value_bytes


@dataclass
class Buffer:
    """Memory of one or more values, from the node that makes it to the node that reads it last."""

    size_bytes: int
    start: int
    end: int
    shape: tuple[object, ...]
    uses: int = 0
    pinned: bool = False  # fed, fetched or constant: not to be written over or handed on
    values: list[ir.Value] = field(default_factory=list)


@dataclass
class Step:
    """One node of a run: buffers that begin with it, what its kernel takes meanwhile, buffers that end with it.

    `early` kernels take the second before the first: it decides where an arena puts them.
    """

    takes: list[Buffer] = field(default_factory=list)
    scratch: list[int] = field(default_factory=list)
    gives: list[Buffer] = field(default_factory=list)
    early: bool = False


def steps(graph: ir.Graph, rank: int = COST_RANK, *, packed: bool = False) -> list[Step]:
    """What a run allocates and frees, node by node; buffers that leave the graph are freed by nobody here."""
    out = [
        Step(scratch=scratches(node, rank, packed), early=(node.domain, node.op_type) in SCRATCH_FIRST)
        for node in graph
    ]
    for buffer in buffers(graph, rank):
        out[buffer.start].takes.append(buffer)
        if not buffer.pinned:
            out[buffer.end].gives.append(buffer)
    return out


def live_bytes(graph: ir.Graph, rank: int = COST_RANK, *, hand_on: bool = True, packed: bool = False) -> list[int]:
    """Bytes alive while each node runs, in file order; inputs that are fed and weights do not count.

    Args:
        graph: with known shapes, its nodes in execution order.
        rank: what a rank symbol counts.
        hand_on: whether freed buffers wait for a value of the same shape, as in onnxruntime.
        packed: whether the session packs weights, so that products of few bits restore none.
    """
    change = [0] * (len(graph) + 1)
    for buffer in buffers(graph, rank, hand_on=hand_on):
        change[buffer.start] += buffer.size_bytes
        change[buffer.end + 1] -= buffer.size_bytes
    out, alive = [], 0
    for index, node in enumerate(graph):
        alive += change[index]
        out.append(alive + sum(scratches(node, rank, packed)))
    return out


def buffers(graph: ir.Graph, rank: int = COST_RANK, *, hand_on: bool = True) -> list[Buffer]:
    """Every buffer that a run allocates."""
    last = len(graph) - 1
    uses = Counter(value for node in graph for value in reads(node))
    fetched = set(graph.outputs)
    held: dict[ir.Value, Buffer] = {}
    made: list[Buffer] = []
    free: list[Buffer] = []
    for index, node in enumerate(graph):
        for value in node.outputs:
            if not value.name:
                continue
            buffer = None if value in fetched else _taken_over(node, value, held) or _handed_on(value, free, hand_on)
            if buffer is None:
                buffer = Buffer(value_bytes(value, rank), index, index, _shape(value), pinned=value in fetched)
                made.append(buffer)
            buffer.uses += uses[value]
            buffer.values.append(value)
            held[value] = buffer
            buffer.end = last if value in fetched else index
        for value in (*reads(node), *node.outputs):
            touched = held.get(value)
            if touched is None:
                continue
            touched.end = max(touched.end, index)
            touched.uses -= value not in node.outputs
            if touched.uses == 0 and not touched.pinned and touched not in free:
                free.insert(0, touched)
    return made


def _taken_over(node: ir.Node, value: ir.Value, held: dict[ir.Value, Buffer]) -> Buffer | None:
    """The input whose memory an output shares, if the kernel allows it."""
    if node.domain == "" and node.op_type in ALIASES and node.inputs[0] is not None:
        # of something that was fed, or of a weight: no memory of the run's own
        return held.get(node.inputs[0]) or Buffer(0, 0, 0, (), pinned=True)
    source = node.inputs[0] if node.domain == "" and node.op_type in IN_PLACE else None
    if source is None or source not in held:
        return None
    buffer = held[source]
    return buffer if buffer.uses == 1 and not buffer.pinned and _shape(source) == _shape(value) else None


def _handed_on(value: ir.Value, free: list[Buffer], hand_on: bool) -> Buffer | None:
    """A freed buffer of the same shape, the one freed last first."""
    shape = _shape(value)
    for position, buffer in enumerate(free if hand_on and len(shape) > 1 else ()):
        if buffer.shape == shape:
            return free.pop(position)
    return None


def _shape(value: ir.Value) -> tuple[object, ...]:
    return (dtype_of(value).bitwidth, *dims_of(value))


def scratches(node: ir.Node, rank: int, packed: bool = False) -> list[int]:
    """What a node allocates while it runs, beside its outputs; a body counts with the most it has alive."""
    inner = max((max(live_bytes(body, rank), default=0) for body in bodies(node)), default=0)
    return [*([inner] if inner else []), *scratch(node, rank, packed)]
