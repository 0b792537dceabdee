"""Which trainer: backpropagation where memory allows, forward passes only where it does not, else a closed form.

A pure decision over plain numbers. What it knows:

* At equal rows, forward-only trainers are far behind. In a trial (sentences of ten intents, 600 steps of 8 directions)
  they brought 768 parameters 40 % of what gradients brought them, with six times the forward passes; 3,072 parameters
  got next to nothing, 6,144 nothing. A gradient estimate's cosine with the true one is sqrt(directions / parameters).
  So there must be a good six directions over all steps for each parameter, and tiers must be small. On sentences of
  another data set that brought rank 1 of one block a fifth of what gradients did (docs/trainers.md, Accuracy).
* A head has a closed form, which no perturbation comes near; so heads are never perturbed.
* More rows in a graph's run are faster and change nothing else; so the largest micro-batch that fits is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from console.errors import DoesNotFit
from console.table import mib
from edge.training.tiers import Offer
from wire.manifest import Graph, Manifest

PER_PARAMETER = 6  # directions over all steps
DIRECTIONS = 64  # of a step, at most: two forward passes each


@dataclass(frozen=True)
class Run:
    """What it takes to run the graphs of one bucket: rows of a micro-batch, and the peak of a process."""

    batch: int
    memory_bytes: int


@dataclass(frozen=True)
class Facts:
    """What a decision rests on.

    Attributes:
        tiers: what may be trained, the head alone among it.
        backward: buckets whose last segment has a backward graph.
        forward: buckets with forward graphs.
        scales: buckets whose forward graphs take quantization scales.
        scale_count: how many scales there are.
        rows: to train on.
        steps: that will be taken.
        budget_bytes: for the process; None where it is not known.
    """

    tiers: tuple[Offer, ...]
    backward: tuple[Run, ...] = ()
    forward: tuple[Run, ...] = ()
    scales: tuple[Run, ...] = ()
    scale_count: int = 0
    rows: int = 0
    steps: int = 100
    budget_bytes: int | None = None


@dataclass(frozen=True)
class Choice:
    """A trainer, and why.

    Attributes:
        trainer: backprop, spry, qzo or ridge.
        tiers: those that it may train, the head alone not among them; scales are one.
        micro_batch: rows of a graph's run; None: what the bundle says.
        directions: for each step; 0 where gradients or sums are used.
        reasons: sentences.
    """

    trainer: str
    tiers: tuple[Offer, ...]
    micro_batch: int | None
    directions: int
    reasons: tuple[str, ...]


def choose(facts: Facts) -> Choice:
    """The trainer for some facts.

    Raises:
        DoesNotFit: neither a graph for training nor one for a head fits.
    """
    deep = tuple(offer for offer in facts.tiers if not offer.head)
    why = list[str]()
    if deep:
        run = _largest(facts.backward, facts.budget_bytes)
        if run is not None:
            said = f"Backpropagation: a backward graph of {run.batch} rows {_takes(run, facts.budget_bytes)}."
            return Choice("backprop", deep, run.batch, 0, (said,))
        why.append(_without_backward(facts))
        found = _forward(facts, deep, why)
        if found is not None:
            return found
    return _closed(facts, deep, why)


def directions_needed(parameters: int, steps: int) -> int:
    """Directions of a step, so that there are six over all steps for each parameter.

    >>> directions_needed(768, 600), directions_needed(10, 600)
    (8, 1)
    """
    return max(1, math.ceil(PER_PARAMETER * parameters / max(1, steps)))


def facts_of(manifest: Manifest, tiers: Sequence[Offer], rows: int, steps: int, budget_bytes: int | None) -> Facts:
    """The facts of a bundle. A bucket takes what its most demanding segment takes, which are open one at a time."""
    return Facts(
        tuple(tiers),
        _runs(manifest, "backward"),
        _runs(manifest, "forward"),
        _runs(manifest, "scales"),
        sum({one.input: one.shape[0] for one in manifest.scales}.values()),  # a factor for each row of them
        rows,
        steps,
        budget_bytes,
    )


def _runs(manifest: Manifest, kind: str) -> tuple[Run, ...]:
    """The buckets for which the last segment has a graph of a kind, and every segment below it one to feed it."""
    found = []
    for bucket in manifest.buckets:
        graphs = [[g for g in s.graphs if g.bucket == bucket.name] for s in manifest.segments]
        last = [g for g in graphs[-1] if g.kind == kind] if graphs else []
        below = [[g for g in own if g.kind in ("forward", kind)] for own in graphs[:-1]]
        if last and all(below):
            needed = max(_bytes(g) for g in [*last, *(g for own in below for g in own)])
            found.append(Run(bucket.batch, needed))
    return tuple(found)


def _bytes(graph: Graph) -> int:
    return graph.memory.predicted_bytes if graph.memory.measured_bytes is None else graph.memory.measured_bytes


def _largest(runs: Sequence[Run], budget_bytes: int | None) -> Run | None:
    fitting = [r for r in runs if budget_bytes is None or r.memory_bytes <= budget_bytes]
    return max(fitting, key=lambda r: r.batch, default=None)


def _takes(run: Run, budget_bytes: int | None) -> str:
    if budget_bytes is None:
        return f"is there and takes {mib(run.memory_bytes)}; how much memory is free is not known"
    return f"takes {mib(run.memory_bytes)} of the {mib(budget_bytes)} that are free for training"


def _without_backward(facts: Facts) -> str:
    if not facts.backward:
        return "No backpropagation: the bundle has no backward graph (export with --mode train)."
    least = min(r.memory_bytes for r in facts.backward)
    free = mib(facts.budget_bytes or 0)
    return f"No backpropagation: its smallest backward graph takes {mib(least)}, and {free} are free for training."


def _forward(facts: Facts, deep: Sequence[Offer], why: list[str]) -> Choice | None:
    """Forward passes only, with the largest tier for which enough directions can be taken."""
    run, small = _largest(facts.forward, facts.budget_bytes), min(deep, key=lambda o: o.parameters)
    fit = tuple(o for o in deep if directions_needed(o.parameters, facts.steps) <= DIRECTIONS)
    far = "at equal rows forward passes alone bring far less than gradients"
    if run is not None and fit:
        largest = max(fit, key=lambda o: o.parameters)
        k = directions_needed(largest.parameters, facts.steps)
        why.append(
            f"Spry: the forward graph {_takes(run, facts.budget_bytes)}; {k} directions in each of {facts.steps:,} "
            f"steps are enough for {largest.name} ({largest.parameters:,} parameters), but {far}."
        )
        return Choice("spry", fit, run.batch, k, tuple(why))
    if run is not None:
        k = directions_needed(small.parameters, facts.steps)
        why.append(
            f"No Spry: {small.name} has {small.parameters:,} parameters, which would take {k} directions in each of "
            f"{facts.steps:,} steps, and {DIRECTIONS} are the most; {far}."
        )
    scales, k = _largest(facts.scales, facts.budget_bytes), directions_needed(facts.scale_count, facts.steps)
    if scales is not None and facts.scale_count and k <= DIRECTIONS:
        why.append(
            f"QZO: the graph with scales as inputs {_takes(scales, facts.budget_bytes)}; {k} directions in each of "
            f"{facts.steps:,} steps are enough for {facts.scale_count:,} scales, but {far}."
        )
        offer = Offer("scales", 0, biases=False, head=False, parameters=facts.scale_count)
        return Choice("qzo", (offer,), scales.batch, k, tuple(why))
    return None


def _closed(facts: Facts, deep: Sequence[Offer], why: list[str]) -> Choice:
    """A head in closed form, which needs one forward pass over the rows."""
    run = _largest(facts.forward, facts.budget_bytes)
    if run is not None and any(offer.head for offer in facts.tiers):
        what = "only the head is to learn" if not deep else "what is left is the head"
        why.append(f"A head in closed form: {what}; one forward pass over {facts.rows:,} rows, and no rate to choose.")
        return Choice("ridge", (), run.batch, 0, tuple(why))
    if run is None:
        least = min((r.memory_bytes for r in facts.forward), default=0)
        found = f"{mib(facts.budget_bytes or 0)} free, and {mib(least)} is what the smallest forward graph takes"
        found = found if facts.forward else "no forward graph"
    else:
        found = "no head to solve"
    raise DoesNotFit(
        f"expected a trainer that this board can run, found {found}; {' '.join(why)} Close other programs, ask for "
        "more --steps or a smaller --rank, or name a --trainer yourself"
    )
