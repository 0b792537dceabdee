"""Runs of a chain of segments, of one bundle or of several, with states that go from run to run.

What a state's output was becomes its input: KV caches and recurrent nets alike begin with zeros. Sessions stay open
where the bundle's budget holds all of its segments at once; else each is made again at every run, as `edge.chain` does.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, join
from edge.feeds import forward_bucket
from edge.runtime import Session
from quant.rows import Tables, open_tables
from wire.adapter import Adapter
from wire.bundle import Bundle
from wire.inputs import changes_layers, inputs_of, joined
from wire.manifest import Graph, Manifest, Segment, State, Tensor

Array = NDArray[Any]
Values = dict[str, Array]


@dataclass
class _Stage:
    """One segment: its graph, its session while it is open, and its last run where that may be used again."""

    bundle: Bundle
    segment: Segment
    graph: Graph
    keep: bool
    tables: Tables
    session: Session | None = None
    fed: Values = field(default_factory=dict)
    made: Values = field(default_factory=dict)


class Steps:
    """A chain that is run again and again.

    Args:
        bundles: one, or all stages of a chain over several boards in any order.
        threads: for one operator.
        keep: whether sessions stay open; None keeps those of a bundle whose budget holds all of them.
        again: a segment that is fed the same as in the run before is not run once more.
        adapter: of the whole model, fed in every run; while it changes no layer, graphs without slots run.

    Raises:
        BadData: the bundles are not one chain, or have no forward graphs; the adapter is not of their model.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        threads: int = 1,
        *,
        keep: bool | None = None,
        again: bool = True,
        adapter: Adapter | None = None,
    ) -> None:
        self.bundles, self.threads, self.again = ordered(bundles), threads, again
        self._adapted = inputs_of(joined([b.manifest for b in self.bundles]), adapter)
        bare = not changes_layers(adapter)
        fed = self._adapted
        self._stages = [stage for b in self.bundles for stage in _stages(b, keep, fed, bare=bare)]
        self.states: Values = {}
        self.reset()

    @property
    def manifest(self) -> Manifest:
        """Of the first stage: what the model is, and what enters it."""
        return self.bundles[0].manifest

    @property
    def records(self) -> tuple[State, ...]:
        """All states of the chain."""
        return tuple(state for bundle in self.bundles for state in bundle.manifest.states)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What is fed to a run: neither states nor what one segment hands to another."""
        made = {t.name for stage in self._stages for t in stage.graph.outputs} | {s.input for s in self.records}
        found = {t.name: t for bundle in self.bundles for t in bundle.manifest.inputs if t.name not in made}
        return tuple(found.values())

    @property
    def outputs(self) -> tuple[str, ...]:
        """What a run gives: the model's outputs, without states."""
        hidden = {state.output for state in self.records}
        named = [t.name for bundle in self.bundles for t in bundle.manifest.outputs]
        last = [] if named else [t.name for t in self._stages[-1].graph.outputs]
        return tuple(name for name in dict.fromkeys([*named, *last]) if name not in hidden)

    def reset(self) -> None:
        """Back to before the first run: all states are zeros."""
        self.states = {s.input: np.zeros(s.shape, s.dtype) for s in self.records}
        for stage in self._stages:
            stage.fed, stage.made = {}, {}

    def run(self, feeds: Mapping[str, Array], wanted: Sequence[str] | None = None) -> Values:
        """One run: inputs in, outputs out; the states move on.

        Args:
            feeds: arrays by name.
            wanted: outputs to return; all of the model's where it is None.

        Raises:
            BadData: an input is absent or does not fit.
        """
        wanted = self.outputs if wanted is None else wanted
        values: Values = {**self._adapted, **feeds, **self.states}
        returned = {state.output for state in self.records}
        for at, stage in enumerate(self._stages):
            later = {name for other in self._stages[at + 1 :] for name in other.segment.inputs}
            values.update(self._run(stage, values))
            keep = later | returned | set(wanted) | set(feeds) | set(self._adapted)
            values = {name: value for name, value in values.items() if name in keep}
        self.states = {state.input: values[state.output] for state in self.records}
        absent = [name for name in wanted if name not in values]
        if absent:
            raise BadData(f"expected outputs {', '.join(self.outputs)}, found {', '.join(absent)} asked for")
        return {name: values[name] for name in wanted}

    def _run(self, stage: _Stage, values: Values) -> Values:
        names = {tensor.name for tensor in stage.graph.inputs}
        names |= stage.tables.behind(names)
        fed = {name: value for name, value in values.items() if name in names}
        if self.again and stage.made and _same(fed, stage.fed):
            return stage.made
        if stage.session is None:
            stage.session = Session(stage.bundle.path(stage.graph.file), stage.graph, self.threads, stage.tables)
        made = stage.session.run(fed)
        if not stage.keep:
            self._close(stage)
        # a state moves in every run: such a segment is never fed the same
        if self.again and not names & self.states.keys():
            stage.fed, stage.made = fed, made
        return made

    def _close(self, stage: _Stage) -> None:
        if stage.session is not None:
            stage.session.close()
            stage.session = None

    def close(self) -> None:
        """Give the memory back."""
        for stage in self._stages:
            self._close(stage)


def ordered(bundles: Sequence[Bundle]) -> list[Bundle]:
    """The stages of one chain in running order; a bundle that is a whole model stands alone.

    Raises:
        BadData: a stage is absent or of another chain, or a bundle is the front of a split model.
    """
    for bundle in bundles:
        split = bundle.manifest.split
        if split is not None and split.role == "front":
            raise BadData(
                f"expected a whole model or the stages of a chain, found the front {bundle.folder.name}, behind which "
                f"its tail goes on; run the bundle of {split.tail}"
            )
    chains = [bundle.manifest.chain for bundle in bundles]
    whole = [b.folder.name for b, chain in zip(bundles, chains, strict=True) if chain is None or len(chain.devices) < 2]
    if whole and len(bundles) > 1:
        raise BadData(f"expected stages of one chain, found the whole model {whole[0]} among them; run it alone")
    known = [chain for chain in chains if chain is not None]
    if whole or not known:
        return list(bundles)
    ids, devices = sorted({chain.id for chain in known}), known[0].devices
    if len(ids) > 1:
        raise BadData(f"expected stages of one chain, found stages of {', '.join(ids)}; take those of one export")
    by_position = {chain.position: bundle for chain, bundle in zip(known, bundles, strict=True)}
    absent = [f"{at + 1:02d} ({name})" for at, name in enumerate(devices) if at not in by_position]
    if absent or len(by_position) != len(bundles):
        problem = f"none for {join(absent)}" if absent else "one of them twice"
        raise BadData(f"expected all {len(devices)} stages of chain {ids[0]}, found {problem}; name every stage once")
    return [by_position[at] for at in range(len(devices))]


def _stages(bundle: Bundle, keep: bool | None, fed: Container[str], *, bare: bool) -> list[_Stage]:
    manifest = bundle.manifest
    bucket = forward_bucket(manifest).name
    graphs = [manifest.serving(segment, bucket, bare=bare, fed=fed) for segment in manifest.segments]
    kept = _fits(manifest, graphs) if keep is None else keep
    tables = open_tables(manifest.tables, bundle.path)
    return [_Stage(bundle, s, g, kept, tables) for s, g in zip(manifest.segments, graphs, strict=True)]


def _fits(manifest: Manifest, graphs: Sequence[Graph]) -> bool:
    """Whether all sessions may be open at once: the runtime once, and what each graph takes beyond it."""
    if len(graphs) == 1:
        return True
    base = max((g.memory.base_bytes or 0 for g in graphs), default=0)
    return base + sum(max(0, g.memory.predicted_bytes - base) for g in graphs) <= manifest.plan.budget_bytes


def _same(fed: Values, before: Values) -> bool:
    return fed.keys() == before.keys() and all(
        value is before[name] or np.array_equal(value, before[name]) for name, value in fed.items()
    )
