"""What a bundle's graphs take here, beside what a latency table says: its golden input, and a training step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.times import Speed, works_ns
from edge.feeds import training_bucket
from edge.prove import golden_of
from edge.runtime import Session
from quant.rows import open_tables
from wire.bundle import Bundle
from wire.manifest import Graph, Manifest
from wire.step import inference_graphs, training_graphs

Values = dict[str, NDArray[Any]]
TURNS, LONGEST_S = 15, 10.0
SPREAD = 0.05  # of the entries of adapters


@dataclass(frozen=True)
class Compared:
    """One graph at one run, in nanoseconds; `predicted_ns` is None where the bundle does not say what it does."""

    file: str
    step: str  # inference or training
    predicted_ns: int | None
    measured_ns: int

    @property
    def ratio(self) -> float | None:
        """Predicted to measured."""
        return None if self.predicted_ns is None else self.predicted_ns / self.measured_ns


def compare(bundle: Bundle, speed: Speed, threads: int = 1) -> list[Compared]:
    """Run every graph of an inference, then those of a training step of one micro-batch where there are some.

    Args:
        bundle: checked.
        speed: of this board, with its latency table.
        threads: of a run.

    Raises:
        BadData: the bundle has no golden input.
        IntegrityError: a graph is not what the manifest says.
    """
    manifest = bundle.manifest
    values: Values = {state.input: np.zeros(state.shape, state.dtype) for state in manifest.states}
    values |= golden_of(bundle)[0]
    rows = []
    for step, graph in _steps(manifest):
        made, measured = _run(bundle, graph, _feeds(graph, values, manifest.plan.rank), threads)
        values |= made
        predicted = round(speed.run_ns(threads)) + works_ns(graph.work, speed, threads) if graph.work else None
        rows.append(Compared(graph.file, step, predicted, measured))
    return rows


def together(rows: list[Compared], step: str) -> Compared | None:
    """All graphs of a step; None where it has none."""
    own = [row for row in rows if row.step == step]
    if not own:
        return None
    known = [row.predicted_ns for row in own if row.predicted_ns is not None]
    predicted = sum(known) if len(known) == len(own) else None
    return replace(own[0], file="all", predicted_ns=predicted, measured_ns=sum(row.measured_ns for row in own))


def _steps(manifest: Manifest) -> Iterator[tuple[str, Graph]]:
    """The graphs of each step, in order."""
    yield from (("inference", graph) for graph in inference_graphs(manifest, manifest.golden.bucket))
    if any(graph.kind == "backward" for segment in manifest.segments for graph in segment.graphs):
        bucket = training_bucket(manifest).name
        yield from (("training", graph) for graph in training_graphs(manifest, bucket))


def _feeds(graph: Graph, values: Mapping[str, NDArray[Any]], rank: int) -> Values:
    """What is known, cut to the graph's shapes; small numbers for the rest (adapters, labels, gradients)."""
    rng, out = np.random.default_rng(0), Values()
    for tensor in graph.inputs:
        shape = tuple(rank if isinstance(size, str) else int(size) for size in tensor.shape)
        known = values.get(tensor.name)
        part = known[tuple(slice(size) for size in shape)] if known is not None and known.ndim == len(shape) else None
        if part is None or part.shape != shape:
            part = (SPREAD * rng.standard_normal(shape)).astype(tensor.dtype)
        out[tensor.name] = part
    return out


def _run(bundle: Bundle, graph: Graph, feeds: Values, threads: int) -> tuple[Values, int]:
    """What a graph makes, and the median of its runs after the first."""
    clock = time.process_time_ns if threads == 1 else time.perf_counter_ns
    session = Session(bundle.path(graph.file), graph, threads, open_tables(bundle.manifest.tables, bundle.path))
    try:
        made, taken, until = session.run(feeds), list[int](), time.monotonic() + LONGEST_S
        while not taken or (len(taken) < TURNS and time.monotonic() < until):
            began = clock()
            session.run(feeds)
            taken.append(clock() - began)
    finally:
        session.close()
    return made, max(1, round(statistics.median(taken)))
