"""A chain of segments in this process: forward through all of them, and the gradients back.

This is what a worker on a board does, written for checking: everything stays in memory, one item per role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from console.errors import BadData
from export.gradient.backward import gradient_name
from export.peak import session_options
from quant.rows import Tables, open_tables
from wire.bundle import Bundle
from wire.manifest import Options
from wire.record import plain

Array = NDArray[Any]
Values = dict[str, Array]

# notes of the options: no optimization, so that file order is execution order and no weight is copied or
# folded; the arena is kept because malloc is slower and hardly smaller
PLAIN = Options(
    graph_optimization="disable",
    execution_order="priority",
    memory_pattern=False,
    cpu_arena=True,
    config={"session.intra_op.allow_spinning": "0", "session.disable_prepacking": "1"},
)


@dataclass(frozen=True)
class Link:
    """One segment as files: its forward graph, the others that it has, and their options.

    Those are backward, slot-free, with scales, and backward from the gradient of a head's features (`returned`).
    """

    name: str
    forward: Path
    backward: Path | None = None
    forward_options: Options = PLAIN
    backward_options: Options = PLAIN
    serve: Path | None = None
    serve_options: Options = PLAIN
    scales: Path | None = None
    scales_options: Options = PLAIN
    returned: Path | None = None
    returned_options: Options = PLAIN

    def graphs(self) -> list[tuple[str, Path, Options]]:
        """Kind, file and options of its graphs."""
        out = [("forward", self.forward, self.forward_options)]
        if self.backward is not None:
            out.append(("backward", self.backward, self.backward_options))
        out += [] if self.serve is None else [("serve", self.serve, self.serve_options)]
        out += [] if self.scales is None else [("scales", self.scales, self.scales_options)]
        return out + ([] if self.returned is None else [("returned", self.returned, self.returned_options)])

    def served(self) -> Link:
        """The link as it is run while no adapter is deployed."""
        return self if self.serve is None else Link(self.name, self.serve, forward_options=self.serve_options)

    def scaled(self) -> Link:
        """The link as it is run when scales are moved."""
        return self if self.scales is None else Link(self.name, self.scales, forward_options=self.scales_options)


def chain_of(bundle: Bundle, bucket: str | None = None) -> Chain:
    """The chain of a bundle for a bucket, with its tables.

    Raises:
        BadData: a segment has no forward graph.
        IntegrityError: the file of a table is not as long as it should be.
    """
    return Chain(links_of(bundle, bucket), open_tables(bundle.manifest.tables, bundle.path))


def links_of(bundle: Bundle, bucket: str | None = None) -> list[Link]:
    """The chain of a bundle, with the options that its manifest says.

    Args:
        bundle: checked.
        bucket: its name; None for that of the golden values.

    Raises:
        BadData: a segment has no forward graph.
    """
    out = []
    for segment in bundle.manifest.segments:
        named = bucket or bundle.manifest.golden.bucket
        graphs = {graph.kind: graph for graph in segment.graphs if graph.bucket == named}
        if "forward" not in graphs:
            raise BadData(f"expected a forward graph in {segment.name} of {bundle.folder}, found none; export it again")
        forward, backward = graphs["forward"], graphs.get("backward")
        back = None if backward is None else bundle.path(backward.file)
        options = PLAIN if backward is None else backward.options
        out.append(Link(segment.name, bundle.path(forward.file), back, forward.options, options))
    return out


class Graph:
    """One session, with the names of all its inputs: those with a default are listed apart by onnxruntime."""

    def __init__(self, path: Path, options: Options = PLAIN) -> None:
        providers = ["CPUExecutionProvider"]
        self.session = ort.InferenceSession(str(path), session_options(plain(options)), providers=providers)
        self.required = [value.name for value in self.session.get_inputs()]
        self.optional = [value.name for value in self.session.get_overridable_initializers()]
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.shapes = {value.name: tuple(value.shape) for value in self.session.get_inputs()}

    def feeds(self, values: Mapping[str, Array]) -> Values:
        """Those of `values` that it takes.

        Raises:
            BadData: one that it cannot do without is absent.
        """
        absent = [name for name in self.required if name not in values]
        if absent:
            raise BadData(f"expected values for all inputs of a graph, found none for {', '.join(absent)}")
        given = [name for name in self.optional if name in values]
        return {name: values[name] for name in (*self.required, *given)}

    def __call__(self, values: Mapping[str, Array]) -> Values:
        """Run it on those of `values` that it takes; its outputs by name."""
        return dict(zip(self.outputs, self.session.run(self.outputs, self.feeds(values)), strict=True))


class Chain:
    """Sessions of all segments, made when they are first used. Inputs that are rows of `tables` come from their ids."""

    def __init__(self, links: Sequence[Link], tables: Tables | None = None) -> None:
        self.links, self.tables = list(links), Tables() if tables is None else tables
        self._graphs: dict[Path, Graph] = {}

    def graph(self, path: Path, options: Options) -> Graph:
        """The session of a file."""
        if path not in self._graphs:
            self._graphs[path] = Graph(path, options)
        return self._graphs[path]

    def beside(self, links: Sequence[Link]) -> Chain:
        """A chain of other links, which shares the sessions of files that are in both."""
        other = Chain(links, self.tables)
        other._graphs = self._graphs
        return other

    def forward(self, feeds: Mapping[str, Array]) -> Values:
        """Everything fed and everything computed: boundaries, features, logits."""
        values = dict(feeds)
        for link in self.links:
            graph = self.graph(link.forward, link.forward_options)
            values.update(self.tables.complete(values, graph.shapes))
            values.update(graph(values))
        return values

    def runs(
        self, runs: Sequence[Mapping[str, Array]], states: Sequence[tuple[str, str]], first: Mapping[str, Array]
    ) -> list[Values]:
        """Forward, run by run; what a state's output was becomes its input.

        Args:
            runs: what is fed, without states.
            states: pairs of input and output.
            first: the states before the first run.
        """
        out, held = [], dict(first)
        for feeds in runs:
            values = self.forward({**feeds, **held})
            held = {given: values[returned] for given, returned in states}
            out.append(values)
        return out

    def close(self) -> None:
        """Give the sessions' memory back."""
        self._graphs.clear()

    def backward(self, values: Mapping[str, Array]) -> Values:
        """`values` with the loss and all gradients; it must hold labels, weights and what `forward` returned.

        Several segments may use one slot: their gradients add.
        """
        values, sums = dict(values), Values()
        for link in reversed(self.links):
            if link.backward is not None:
                found = self.graph(link.backward, link.backward_options)(values)
                values.update(found)
                for name in (name for name in found if name.startswith(gradient_name("slot."))):
                    sums[name] = sums[name] + found[name] if name in sums else found[name]
        return values | sums

    def feeds_of(self, values: Mapping[str, Array]) -> dict[Path, Values]:
        """What each graph is fed in a run that had these values."""
        graphs = [(path, options) for link in self.links for _, path, options in link.graphs()]
        return {path: self.graph(path, options).feeds(values) for path, options in graphs}


def loss_of(logits: Array, labels: NDArray[np.int64], weights: Array) -> float:
    """Sum of weight x cross entropy in float64: logits [n, C], labels [n] (-100 counts nothing), weights [n]."""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    counts = labels >= 0
    picked = log_p[np.arange(len(labels)), np.where(counts, labels, 0)]
    return float(-(np.where(counts, weights, 0.0) * picked).sum())


def gradients_of(values: Mapping[str, Array], names: Sequence[str]) -> Values:
    """The gradients of some inputs among the values of a backward run."""
    return {name: values[gradient_name(name)] for name in names if gradient_name(name) in values}
