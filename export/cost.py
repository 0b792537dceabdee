"""Numbers for the planner: a frozen model as stretches between legal cuts.

Everything is counted on real graphs: weights on the forward graph, activations on the backward graph of the
whole model, which is built for this and thrown away.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from devices.units import Unit
from export.cut import crossing, cut, is_factor, learns
from export.flops import moved_bytes, node_flops
from export.formats.grid import Grid
from export.formats.registry import FORMATS
from export.formats.rewrite import Formats
from export.gradient.backward import LossSpec, build_backward
from export.gradient.dims import dims_of
from export.legal import legal_cuts
from export.liveness import buffers, live_bytes
from export.modules import module_path
from export.unit_work import Counted, count_work
from export.values import COST_RANK, FED_AS, constant_nodes, reads, value_bytes
from export.weight_cost import Stored, products_of, readers_of, shape_words, stored, weights_by_unit


@dataclass(frozen=True)
class Cost:
    """Units and where they end: `positions[i]` is the node before which unit i + 1 begins.

    `readers` are the units that read each weight, by its name, and `plain_bytes` what it takes in float32. `products`
    are the units with a product that reads it, and `shapes` its shape in words. `counted` is the work of each unit.
    """

    units: tuple[Unit, ...]
    positions: tuple[int, ...]
    readers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    plain_bytes: Mapping[str, int] = field(default_factory=dict)
    products: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    shapes: Mapping[str, str] = field(default_factory=dict)
    counted: tuple[Counted, ...] = ()
    mode: str = "serve"

    def nodes(self, cuts: tuple[int, ...]) -> tuple[int, ...]:
        """Node positions of a plan's cuts."""
        return tuple(self.positions[c - 1] for c in cuts)

    def with_stored(self, called: str, kept: Mapping[str, Stored]) -> tuple[Unit, ...]:
        """The units with weight bytes of one more way to store weights.

        Args:
            called: what the formats are called together.
            kept: how weights that are not in float32 are stored, by name.
        """
        less = [0] * len(self.units)
        floats: list[dict[str, int]] = [{} for _ in self.units]
        for name, one in kept.items():
            for unit in self.readers[name]:
                less[unit] += self.plain_bytes[name] - one.bytes
            for unit in self.products.get(name, ()) if one.restored else ():
                floats[unit][self.shapes[name]] = self.plain_bytes[name]

        def shared(unit: int, name: str, plain: int) -> int:
            return kept[name].shared(unit in self.products.get(name, ())) if name in kept else plain

        return tuple(
            replace(
                unit,
                weight_bytes={**unit.weight_bytes, called: unit.weight_bytes["fp32"] - less[k]},
                dequantized_bytes={**unit.dequantized_bytes, called: floats[k]},
                works={**unit.works, called: self.counted[k].stored(called, kept, self.mode)} if self.counted else {},
                tied={name: {**known, called: shared(k, name, known["fp32"])} for name, known in unit.tied.items()},
            )
            for k, unit in enumerate(self.units)
        )


def cost(
    model: ir.Model,
    batch: int,
    mode: str,
    formats: Mapping[str, Formats] | None = None,
    grid: Grid | None = None,
    states: Mapping[str, str] | None = None,
    back_from: int = 0,
) -> Cost:
    """Count a frozen forward model.

    Args:
        model: with slots and head, batch and sequence fixed.
        batch: what it is frozen for; numbers per item are divided by it.
        mode: in mode "train" activations that the backward pass needs are counted as kept.
        formats: of weights, to count bytes in, by what they are called together; every format by itself if None.
        grid: settings of formats.
        states: outputs by the input that they are fed to at the next run.
        back_from: in mode "train" the first unit that goes back; those before it run forward only.

    Raises:
        NoGradientRule: in mode "train", an operator cannot be differentiated.
        UnsupportedModel: a shape is not known.
    """
    graph, states = model.graph, states or {}
    positions = legal_cuts(graph)
    unit_of = _unit_of(graph, positions)
    read = readers_of(graph, unit_of)
    asked: Mapping[str, Formats] = {"fp32": "fp32", **(formats or {name: name for name in FORMATS})}
    products = products_of(graph, unit_of)
    after = {key: stored(model, formats, grid or Grid(), mode) for key, formats in asked.items()}
    weights, dequantized, tied = weights_by_unit(read, products, after, len(positions) + 1)
    kept, transient = _activations(model, unit_of, positions, mode, back_from)
    slots = _slots(graph, unit_of)
    held = _states(graph, unit_of, states)
    crossed = [sum(value_bytes(v) for v in values) for values in crossing(graph, positions)]
    copied = _copied(graph, positions)
    carried = _carried(graph, positions, states)
    operations, moved = _work(graph, unit_of)
    counted = count_work(graph, unit_of, batch)
    names = _unit_names(graph, positions)
    units = tuple(
        Unit(
            name=names[i],
            weight_bytes=weights[i],
            kept_bytes_per_item=-(-kept[i] // batch),
            transient_bytes_per_item=-(-transient[i] // batch),
            boundary_bytes_per_item=-(-crossed[i] // batch) if i < len(crossed) else 0,
            adapter_values_per_rank=slots[i],
            dequantized_bytes=dequantized[i],
            carried_bytes_per_item=-(-carried[i] // batch) if i < len(carried) else 0,
            flops_per_item=-(-operations[i] // batch),
            moved_bytes_per_item=-(-moved[i] // batch),
            state_bytes=held[i],
            copied_bytes_per_item=-(-copied[i] // batch) if i < len(copied) else 0,
            works={key: counted[i].stored(key, kept, mode) for key, kept in after.items()},
            tied=tied[i],
        )
        for i in range(len(positions) + 1)
    )
    readers, multiplied = (
        {str(weight.name): tuple(sorted(own)) for weight, own in found.items()} for found in (read, products)
    )
    shapes = {str(weight.name): shape_words(weight) for weight in products}
    plain = {str(weight.name): value_bytes(weight) for weight in read}
    return Cost(units, tuple(positions), readers, plain, multiplied, shapes, counted, mode)


def _unit_of(graph: ir.Graph, positions: list[int]) -> dict[ir.Node, int]:
    starts, unit, out = set(positions), 0, {}
    for index, node in enumerate(graph):
        unit += index in starts
        out[node] = unit
    return out


def _unit_names(graph: ir.Graph, positions: list[int]) -> list[str]:
    nodes = list(graph)
    return [module_path(nodes[p].name) or nodes[p].name or nodes[p].op_type for p in (0, *positions)]


def _slots(graph: ir.Graph, unit_of: Mapping[ir.Node, int]) -> list[int]:
    """Sum of in + out over the slots of each unit: what one rank of A and B costs."""
    out = [0] * (max(unit_of.values(), default=0) + 1)
    for value in graph.inputs:
        reader = next(iter(value.consumers()), None)
        if is_factor(value.name or "") and reader is not None:
            out[unit_of[reader]] += sum(dim for dim in dims_of(value) if isinstance(dim, int))
    return out


def _carried(graph: ir.Graph, positions: Sequence[int], states: Mapping[str, str]) -> list[int]:
    """Bytes of the model's inputs that are read at or after each cut: a chain of boards hands them on.

    A state is carried where a cut lies between those that read it and what makes it, on or back. Of rows of a table
    that lies outside, the ids are carried, and once for all of them.
    """
    places: dict[ir.Value, list[int]] = {}
    index_of = {node: index for index, node in enumerate(graph)}
    for node, index in index_of.items():
        for value in reads(node):
            if value.is_graph_input() and not value.is_initializer():
                places.setdefault(value.meta.get(FED_AS, value), []).append(index)
    makers = {value.name: value.producer() for value in graph.outputs}
    ways = []  # a value, and the first and the last cut that it crosses
    for value, read in places.items():
        maker = makers.get(states.get(value.name or ""))
        touched = read if maker is None else [*read, index_of[maker]]
        ways.append((value, min(touched) + 1 if value.name in states else 0, max(touched)))
    return [sum(value_bytes(value) for value, first, last in ways if first <= p <= last) for p in positions]


def _copied(graph: ir.Graph, positions: Sequence[int]) -> list[int]:
    """Bytes that the values that cross each cut take where they leave a segment, beyond what they share otherwise.

    What leaves a run has memory of its own: it is no alias, and no kernel has written it over its input.
    """
    made = {v: b for b in buffers(graph, hand_on=False) for v in b.values}
    out = []
    for values in crossing(graph, positions):
        # the others are an alias of what is fed, or have a buffer to themselves
        own = [v for v in values if v not in made or len(made[v].values) > 1]
        # the first of a buffer that crosses whole is no copy
        whole = {id(b): b.size_bytes for v in own if (b := made.get(v)) and set(b.values) <= set(values)}
        out.append(sum(value_bytes(v) for v in own) - sum(whole.values()))
    return out


def _work(graph: ir.Graph, unit_of: Mapping[ir.Node, int]) -> tuple[list[int], list[int]]:
    """Operations, and bytes of activations read and written, of each unit in one run."""
    count, free = max(unit_of.values(), default=0) + 1, constant_nodes(graph)
    operations, moved = [0] * count, [0] * count
    for node in graph:
        if node not in free:
            operations[unit_of[node]] += node_flops(node)
            moved[unit_of[node]] += moved_bytes([node])
    return operations, moved


def _states(graph: ir.Graph, unit_of: Mapping[ir.Node, int], states: Collection[str]) -> list[int]:
    """Bytes of the states that each unit reads first: they stay in memory between runs."""
    out = [0] * (max(unit_of.values(), default=0) + 1)
    for value in graph.inputs:
        if value.name in states:
            readers = [unit_of[node] for node in value.consumers() if node in unit_of]
            out[min(readers, default=0)] += value_bytes(value)
    return out


def _activations(
    model: ir.Model, unit_of: Mapping[ir.Node, int], positions: Sequence[int], mode: str, back_from: int
) -> tuple[list[int], list[int]]:
    """Bytes kept for the backward pass and most bytes alive beyond those, per unit.

    Nothing is kept of the units before `back_from`, and the backward pass ends there.
    """
    count = len(positions) + 1
    if mode != "train":
        return _alive(model.graph, unit_of, count)
    if not back_from:
        wanted = [v.name or "" for v in model.graph.inputs if learns(v.name or "")]
        return _alive(build_backward(model, wanted=wanted, loss=LossSpec()).graph, unit_of, count)
    rest = cut(model, [positions[back_from - 1]])[1]
    back = _alive(build_backward(rest.model, wanted=rest.wanted, loss=LossSpec()).graph, unit_of, count)
    there = _alive(model.graph, unit_of, count)
    return [*there[0][:back_from], *back[0][back_from:]], [*there[1][:back_from], *back[1][back_from:]]


def _alive(graph: ir.Graph, unit_of: Mapping[ir.Node, int], count: int) -> tuple[list[int], list[int]]:
    """Bytes kept and most bytes alive beyond those, of each unit, in a graph that may have a backward half.

    A value of the forward half that the backward half reads is kept, and belongs to the unit that made it.
    Nodes of the backward half belong to the last unit whose values they read; between two of those, to the
    same as before.
    """
    made_in = {v.name: unit for node, unit in unit_of.items() for v in node.outputs}
    kept_values, units = _halves(graph, made_in)
    kept, transient = [0] * count, [0] * count
    held = [0] * (len(graph) + 1)
    for buffer in buffers(graph, hand_on=False):
        owners = [made_in[v.name] for v in buffer.values if v in kept_values]
        if owners:
            kept[owners[0]] += buffer.size_bytes
            held[buffer.start] += buffer.size_bytes
            held[buffer.end + 1] -= buffer.size_bytes
    alive = 0
    for index, live in enumerate(live_bytes(graph, COST_RANK)):
        alive += held[index]
        transient[units[index]] = max(transient[units[index]], live - alive)
    return kept, transient


def _halves(graph: ir.Graph, made_in: Mapping[str | None, int]) -> tuple[set[ir.Value], list[int]]:
    """The kept values, and the unit of every node."""
    kept: set[ir.Value] = set()
    units: list[int] = []
    current = 0
    for node in graph:
        own = [made_in[v.name] for v in node.outputs if v.name in made_in]
        read = [v for v in reads(node) if v.name in made_in]
        if own:
            current = own[0]
        else:
            kept.update(read)
            current = max((made_in[v.name] for v in read), default=current)
        units.append(current)
    return kept, units
