"""A board's memory from its manifest: budget, prediction in parts, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from devices.memory import SESSION_BYTES, WORKER_BASE_BYTES, adapter_bytes, base_bytes, stored_bytes
from devices.plan import STEP_ITEMS
from export.report.facts import SegmentFacts, tensor_bytes
from export.report.findings import Findings, memory
from wire.manifest import Graph, Manifest

REST = "activations"  # the part that takes up what a prediction has beyond the parts that are known exactly


@dataclass(frozen=True)
class GraphMemory:
    """One graph in a fresh process. `growth_bytes`: what it added to the runtime; None where not measured."""

    segment: str
    kind: str
    bucket: str
    predicted_bytes: int
    parts: dict[str, int]
    measured_bytes: int | None
    growth_bytes: int | None
    anonymous_bytes: int | None
    pss_bytes: int | None
    step_s: float | None
    options: str
    machine: str

    @property
    def miss_bytes(self) -> int | None:
        """Measured less predicted."""
        return None if self.measured_bytes is None else self.measured_bytes - self.predicted_bytes


@dataclass(frozen=True)
class BoardMemory:
    """The worker of a board at its largest segment, in bytes. A budget of 0 is none."""

    device: str
    budget_bytes: int
    predicted_bytes: int
    parts: dict[str, int]
    measured_bytes: int | None
    segment: str
    graphs: tuple[GraphMemory, ...] = field(default=())


def board_memory(manifest: Manifest, segments: Sequence[SegmentFacts], found: Findings, where: str) -> BoardMemory:
    """The memory of one bundle.

    Raises:
        BadData: the open fields of a graph's memory are not what they should be.
    """
    weights = {segment.name: segment.weight_bytes for segment in segments}
    base = base_bytes(manifest.preprocess.kind)
    graphs = tuple(
        _graph(segment.name, graph, weights[segment.name], base, f"{where}, {segment.name}.{graph.kind}")
        for segment in manifest.segments
        for graph in segment.graphs
    )
    largest = _largest(manifest, graphs, found)
    held = _held(manifest, segments)
    alike = max((g for g in graphs if g.segment == largest), key=lambda g: g.predicted_bytes, default=None)
    own = dict(alike.parts) if alike else {}
    if "runtime" in own:  # a worker has imported more than the process in which its graphs were measured
        own["runtime"] += WORKER_BASE_BYTES - base
    parts = _fill({**own, **held.get(largest, {})}, manifest.plan.predicted_bytes)
    measured = _measured(graphs, held) if found.measured_bytes is None else found.measured_bytes
    plan = manifest.plan
    return BoardMemory(plan.device, plan.budget_bytes, plan.predicted_bytes, parts, measured, largest, graphs)


def _graph(segment: str, graph: Graph, weight_bytes: int, base: int, where: str) -> GraphMemory:
    m, more = graph.memory, memory(graph.memory, where)
    known = more.parts or {"runtime": base + SESSION_BYTES, "weights": weight_bytes}
    growth = None if m.measured_bytes is None or m.base_bytes is None else m.measured_bytes - m.base_bytes
    options = f"{graph.options.graph_optimization}, {graph.options.execution_order}"
    return GraphMemory(
        segment,
        graph.kind,
        graph.bucket,
        m.predicted_bytes,
        _fill(known, m.predicted_bytes),
        m.measured_bytes,
        growth,
        more.measured_anonymous_bytes,
        more.measured_pss_bytes,
        m.step_s,
        options if graph.options.cpu_arena else f"{options}, no arena",
        m.machine,
    )


def _fill(parts: dict[str, int], total: int) -> dict[str, int]:
    """Parts that add up to `total`: activations take the rest; where there is less than none, others give way."""
    out, left = {}, max(0, total)
    for name, size in parts.items():
        if name != REST:
            out[name] = min(max(0, size), left)
            left -= out[name]
    return {**out, REST: left}


def _largest(manifest: Manifest, graphs: Sequence[GraphMemory], found: Findings) -> str:
    """The segment that decides the board's peak."""
    names = [segment.name for segment in manifest.segments]
    if found.predicted_by_segment and len(found.predicted_by_segment) == len(names):
        return max(zip(found.predicted_by_segment, names, strict=True), key=lambda pair: pair[0])[1]
    return max(graphs, key=lambda g: g.predicted_bytes).segment if graphs else "-"


def _held(manifest: Manifest, segments: Sequence[SegmentFacts]) -> dict[str, dict[str, int]]:
    """What a worker holds beside each segment: adapters and states, and boundary tensors of a step's items."""
    plan = manifest.plan
    values = sum(
        (slot.features_in + slot.features_out) * plan.rank_of(slot.name)
        for slot in manifest.slots
        if slot.kind == "lora"
    )
    adapters = adapter_bytes(values, 1, plan.mode)
    states = sum(tensor_bytes(state.dtype, state.shape) or 0 for state in manifest.states)
    crossing = [s.crossing_bytes // plan.micro_batch * STEP_ITEMS for s in segments]
    last = sum(v.bytes or 0 for s in segments[-1:] for v in s.gives if v.origin == "boundary")
    leaves = [*crossing[1:], last // plan.micro_batch * STEP_ITEMS]
    out, waiting = {}, 0
    for segment, entering, leaving in zip(segments, crossing, leaves[: len(segments)], strict=True):
        waiting += entering
        stored = stored_bytes(plan.mode, waiting, entering, leaving)
        out[segment.name] = {"adapters": adapters, "states": states, "boundaries": stored}
    return out


def _measured(graphs: Sequence[GraphMemory], held: dict[str, dict[str, int]]) -> int | None:
    """What the worker takes at its largest segment: its base, what the graph added, and what is held beside it."""
    if not graphs or any(graph.growth_bytes is None for graph in graphs):
        return None
    return max(WORKER_BASE_BYTES + (g.growth_bytes or 0) + sum(held[g.segment].values()) for g in graphs)
