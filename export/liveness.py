"""How much memory a finished graph has alive at once, by walking it as onnxruntime plans it.

With optimizations off and priority order, execution order is file order, so one walk over the file is exact in
principle. The rules are those of onnxruntime's allocation planner (onnxruntime/core/framework/
allocation_planner.cc): an alias has no memory of its own; some kernels write over an input at its last use;
a freed buffer goes to the next value of the same shape and lives on meanwhile.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import onnx_ir as ir

from export.gradient.dims import Dims, broadcast, dims_of, dtype_of
from export.values import COST_RANK, bodies, reads, value_bytes

ALIASES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
# Kernels that write over their first input at its last use, if shape and element size agree. Measured, kernel by
# kernel, on onnxruntime 1.31.1 with buffers of 16 MiB: plain arithmetic (Add, Mul, Neg, Exp, ...), Erf, Gelu
# and LayerNormalization do not.
IN_PLACE = frozenset({"Relu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Clip", "Cast", "ScatterElements"})


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


def live_bytes(graph: ir.Graph, rank: int = COST_RANK, *, hand_on: bool = True) -> list[int]:
    """Bytes alive while each node runs, in file order; inputs that are fed and weights do not count.

    Args:
        graph: with known shapes, its nodes in execution order.
        rank: what a rank symbol counts.
        hand_on: whether freed buffers wait for a value of the same shape, as in onnxruntime.
    """
    change = [0] * (len(graph) + 1)
    for buffer in buffers(graph, rank, hand_on=hand_on):
        change[buffer.start] += buffer.size_bytes
        change[buffer.end + 1] -= buffer.size_bytes
    out, alive = [], 0
    for index, node in enumerate(graph):
        alive += change[index]
        out.append(alive + _scratch(node, rank))
    return out


def live_peak(model: ir.Model, rank: int = COST_RANK) -> int:
    """The most bytes that a run of this graph has alive at once, without weights and fed inputs."""
    return max(live_bytes(model.graph, rank), default=0)


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
    if node.domain == "" and node.op_type in ALIASES and node.inputs[0] in held:
        return held[node.inputs[0]]
    source = node.inputs[0] if node.domain == "" and node.op_type in IN_PLACE else None
    if source is None or source not in held:
        return None
    buffer = held[source]
    return buffer if buffer.uses == 1 and not buffer.pinned and _shape(source) == _shape(value) else None


def _handed_on(value: ir.Value, free: list[Buffer], hand_on: bool) -> Buffer | None:
    """A freed buffer of the same shape, the one freed last first."""
    for position, buffer in enumerate(free if hand_on else ()):
        if buffer.shape == _shape(value):
            return free.pop(position)
    return None


def _shape(value: ir.Value) -> tuple[object, ...]:
    return (dtype_of(value).bitwidth, *dims_of(value))


def _scratch(node: ir.Node, rank: int) -> int:
    """What a kernel allocates while it runs, beside its outputs."""
    inner = max((max(live_bytes(body, rank), default=0) for body in bodies(node)), default=0)
    if node.op_type != "Where" or node.domain:
        return inner
    # the condition selects from each side into a tensor of its own, as wide as the two together
    condition, *sides = (dims_of(value) for value in reads(node))
    return inner + sum(_bytes(broadcast(condition, side), node.outputs[0], rank) for side in sides)


def _bytes(dims: Dims, like: ir.Value, rank: int) -> int:
    numbers = [rank if isinstance(dim, str) else dim for dim in dims]
    return math.prod(numbers) * dtype_of(like).bitwidth // 8
