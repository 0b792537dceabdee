"""A model that can be listened to: every layer's input and output can be fetched, and noise fed to its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.activations.given import calibration_runs
from export.chain import Graph
from export.edit import Edit, redirect
from export.formats.layout import Layout, role_of
from export.formats.rewrite import Weight, weights_of
from export.gradient.present import present
from export.values import is_weight

if TYPE_CHECKING:
    from export.prepare import Prepared

SEEDS = (11, 12, 13)
MOST_ROWS = 1024  # of what a matrix is multiplied with
MOST_USES = 4  # of one weight that are listened to
Array = NDArray[Any]
Use = Literal["product", "table", "other"]


@dataclass(frozen=True)
class Probe:
    """A use of a weight in the probing graph: how it is read, what goes in, what comes out, and the noise on that."""

    weight: Weight
    layout: Layout
    use: Use
    fed: ir.Value
    made: str
    noise: str


def put_probes_in(model: ir.Model) -> list[Probe]:
    """Let the readers of every weight add a noise that is fed, in place; of many the first `MOST_USES`."""
    graph, probes = model.graph, list[Probe]()
    for weight in weights_of(model):
        if weight.layout is None:
            continue
        for node, index in [(use.node, use.idx) for use in weight.value.uses()][:MOST_USES]:
            use = _use(role_of(node, index), weight.layout)
            read, name = present(node.inputs[1 if use == "table" else 0]), f"noise/{len(probes)}"
            _let_in(graph, node, name)
            probes.append(Probe(weight, weight.layout, use, read, str(node.outputs[0].name), name))
    for name in {name for probe in probes for name in (str(probe.fed.name), probe.made)}:
        value = next(v for v in _values(graph) if v.name == name)
        if not value.is_graph_output() and not value.is_graph_input() and not value.is_initializer():
            graph.outputs.append(value)
    return probes


def _use(role: str, layout: Layout) -> Use:
    """How rows as they are stored make an output: multiplied, looked up, or in another way."""
    if role == "table":
        return "table"
    rows = {"matrix": "product", "table": "transposed product"}
    return "product" if rows.get(layout.kind) == role else "other"


def _let_in(graph: ir.Graph, node: ir.Node, name: str) -> None:
    """Add an input of that name, zero by default, to what a node makes."""
    made = node.outputs[0]
    noise = ir.val(name, ir.DataType.FLOAT, [f"{name}.{d}" for d in made.shape or ()])
    noise.const_value = ir.tensor(np.zeros([1] * len(noise.shape or ()), np.float32), name=name)
    graph.inputs.append(noise)
    graph.register_initializer(noise)
    edit = Edit(graph, name)
    noisy = edit.op("Add", made, noise, like=made)
    edit.put_after(node)
    redirect(made, noisy, edit.nodes)


def _values(graph: ir.Graph) -> list[ir.Value]:
    made = [value for node in graph for value in node.outputs]
    return [*graph.inputs, *graph.initializers.values(), *made]


class Session:
    """The probing graph over the calibration input."""

    def __init__(self, prepared: Prepared, graph: Graph, batch: int, constants: Mapping[str, Array]) -> None:
        self.graph, self.judged, self.constants = graph, prepared.judged, constants
        pairs = [(pair.input, pair.output) for pair in prepared.captured.states]
        items = calibration_runs(prepared, batch)
        samples: Sequence[Mapping[str, Array]] = prepared.samples(batch, None) if items is None else items
        if not pairs and items is None:
            samples = [*samples, *(run for seed in SEEDS for run in prepared.samples(batch, seed))]
        held: Mapping[str, Array] = prepared.states(batch)
        tables = prepared.taken(batch).exact()
        self.runs: list[dict[str, Array]] = []
        for run in samples:
            self.runs.append({**run, **held, **tables.complete(run, graph.shapes)})
            if pairs:
                values = self.fetch(self.runs[-1], [output for _, output in pairs])
                held = {given: values[output] for given, output in pairs}
        # states make the last run the richest; without, the first is the real one
        self.at = len(self.runs) - 1 if pairs else 0
        self.chosen = self.runs[self.at]
        self.outputs = self.fetch(self.chosen, self.judged)

    def fetch(self, feeds: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
        """Some values of a run; those that are fed or constant are as they are."""
        asked = [name for name in dict.fromkeys(names) if name in self.graph.outputs]
        made = self.graph.session.run(asked, self.graph.feeds(feeds)) if asked else []
        found = dict(zip(asked, made, strict=True))
        known = {**self.constants, **feeds, **found}
        return {name: known[name] for name in names}

    def change(self, noise: Mapping[str, Array]) -> float:
        """|o' - o|^2 / |o|^2, the mean over the judged outputs."""
        found, ratios = self.fetch({**self.chosen, **noise}, self.judged), []
        for name, exact in self.outputs.items():
            size = float(np.square(exact, dtype=np.float64).sum())
            ratios.append(float(np.square(found[name] - exact, dtype=np.float64).sum()) / size if size else 0.0)
        return float(np.mean(ratios)) if ratios else 0.0


def heard(graph: Graph, probes: Sequence[Probe], runs: Sequence[Mapping[str, Array]]) -> dict[str, NDArray[np.float32]]:
    """What every matrix is multiplied with in some runs: float32 [rows, columns] by its name, at most `MOST_ROWS`."""
    probes = [probe for probe in probes if probe.use == "product" and not is_weight(probe.fed)]
    rows: dict[str, list[Array]] = {probe.weight.name: [] for probe in probes}
    for run in runs:
        values = {**run, **graph(run)}
        for probe in probes:
            rows[probe.weight.name].append(_marked(values[str(probe.fed.name)], run.get("attention_mask")))
    return {name: _spread(np.concatenate(parts)) for name, parts in rows.items() if parts}


def _marked(fed: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[Any]:
    """Rows of an input, without those of tokens that only fill up."""
    if mask is not None and fed.ndim == 3 and fed.shape[:2] == mask.shape:
        return np.asarray(fed[mask > 0])
    return fed.reshape(-1, fed.shape[-1])


def _spread(rows: NDArray[Any]) -> NDArray[np.float32]:
    """At most so many, at even distances."""
    return np.asarray(rows[:: -(-len(rows) // MOST_ROWS)], np.float32)
