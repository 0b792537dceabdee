"""Rows of bundles against the whole model: under the installed runtime, and under the oldest that boards have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from devices.runtimes import newest_for
from edge.steps import Steps
from tests.export.runtime import worst
from tests.workloads.exported import Exported
from tests.workloads.floor import run_rows, write_row
from tests.workloads.whole import whole
from wire.bundle import Bundle
from wire.record import plain

Values = dict[str, Any]
BAR = 1e-5
SEED = 31


def assert_installed_agrees(exported: Exported, built: Path) -> None:
    """Every row, run as boards run it."""
    for bundles in exported.rows.values():
        steps = Steps(bundles)
        runs = exported.prepared.samples(micro_batch(bundles), SEED)
        agree([steps.run(feeds) for feeds in runs], expected(exported, built, bundles, runs))
        steps.close()


def assert_oldest_agrees(exported: Exported, built: Path, python: Path, work: Path) -> None:
    """Every row, run by another interpreter, whose runtime is older."""
    rows = exported.rows
    fed = {name: exported.prepared.samples(micro_batch(bundles), SEED) for name, bundles in rows.items()}
    for name, bundles in rows.items():
        states = [state for bundle in bundles for state in bundle.manifest.states]
        first = {state.input: np.zeros(state.shape, state.dtype) for state in states}
        runs = [{**run, **(first if number == 0 else {})} for number, run in enumerate(fed[name])]
        write_row(work / name, graphs_of(bundles), [(s.input, s.output) for s in states], runs)
    version, found = run_rows(python, [work / name for name in rows])
    assert newest_for(version) < newest_for("1.31")
    for (name, bundles), values in zip(rows.items(), found, strict=True):
        agree(values, expected(exported, built, bundles, fed[name]))


def micro_batch(bundles: Sequence[Bundle]) -> int:
    """Items per run of a row."""
    return bundles[0].manifest.plan.micro_batch


def graphs_of(bundles: Sequence[Bundle]) -> list[tuple[Path, Any]]:
    """File and options of every segment, in running order."""
    served = [(bundle, graph) for bundle in bundles for s in bundle.manifest.segments for graph in s.graphs]
    return [(bundle.path(graph.file), plain(graph.options)) for bundle, graph in served]


def expected(exported: Exported, built: Path, bundles: Sequence[Bundle], runs: list[Values]) -> list[Values]:
    """What the untouched model computes from the same runs; kept, as a micro-batch always gets the same."""
    batch = micro_batch(bundles)
    if batch not in exported.answers:
        pairs = [(pair.input, pair.output) for pair in exported.prepared.captured.states]
        exported.answers[batch] = whole(exported.workload, built, runs, pairs, exported.prepared.states(batch))
    return exported.answers[batch]


def agree(found: list[Values], wanted: list[Values]) -> None:
    """Every output of every run, to the bar; none that says nothing."""
    for got, values in zip(found, wanted, strict=True):
        compared = got.keys() & values.keys()  # what a runtime of boards returns has no states
        assert compared
        for name in compared:
            assert np.ptp(values[name]) > 0, f"{name} says nothing"
            assert worst(got[name], values[name]) <= BAR, name
