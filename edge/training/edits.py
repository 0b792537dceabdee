"""Edits on a bundle: wrong rows in, an adapter out that gets them right, and the way back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from console.errors import BadData
from edge.data import Row
from edge.runner import Runner
from edge.trainers.edit import Edited, Graphs, Labels, Settings, edit
from edge.trainers.interface import Array
from edge.trainers.sketch import Factors
from wire.adapter import Adapter
from wire.json_text import parse_json
from wire.kinds.lora import Lora

EDITS = "edits"  # key of the metadata: ranks by slot before each edit, the last one at the end


@dataclass(frozen=True)
class Mended:
    """The adapter with the edit beside what it held, and what the edit did."""

    adapter: Adapter
    edited: Edited


def mend(
    runner: Runner, adapter: Adapter, wrong: Sequence[Row], keep: Sequence[Row], settings: Settings | None = None
) -> Mended:
    """Mend rows of a bundle whose adapter gets them wrong.

    Args:
        runner: of a bundle with backward graphs.
        adapter: what is in use: factors, biases and head stay as they are. Slots without factors get some.
        wrong: rows with the label that they should get.
        keep: rows whose answer should stay, whatever it is; those among `wrong` are left out.
        settings: how far to go.

    Raises:
        BadData: no rows, no head, no slot, or nothing that is wrong.
        Declined: it cannot be done within the bound.
    """
    if not wrong:
        raise BadData("expected rows to mend, found none; give them with --data")
    if adapter.head is None:
        raise BadData("expected an adapter with a head to mend, found none; start from one that was trained")
    before = {name: lora.rank for name, lora in adapter.lora.items()}
    texts = {row.sample for row in wrong if isinstance(row.sample, str | Path)}
    others = [row for row in keep if not (isinstance(row.sample, str | Path) and row.sample in texts)]
    labels: Labels = np.array([row.label for row in wrong], np.int64)
    done = edit(_graphs(runner, adapter, [*wrong, *others]), _held(runner, adapter), labels, len(others), settings)
    ranks = {name: before.get(name, 0) for name in done.factors}
    metadata = adapter.metadata | {EDITS: json.dumps([*_edits(adapter), ranks])}
    # a head belongs to a rank, and the edit's higher rank must not choose another one
    heads = {adapter.rank: adapter.head}
    return Mended(replace(adapter, lora=dict(done.factors), heads=heads, metadata=metadata), done)


def undone(adapter: Adapter) -> Adapter:
    """The adapter without its last edit: the factors that it had, bit for bit.

    Raises:
        BadData: it has none.
    """
    edits = _edits(adapter)
    if not edits:
        raise BadData("expected an adapter with an edit to undo, found none; choose another file")
    lora = {n: f.prefix(edits[-1].get(n, f.rank)) for n, f in adapter.lora.items()}
    metadata = {k: v for k, v in adapter.metadata.items() if k != EDITS}
    if edits[:-1]:
        metadata[EDITS] = json.dumps(edits[:-1])
    return replace(adapter, lora={n: f for n, f in lora.items() if f.rank}, metadata=metadata)


def _edits(adapter: Adapter) -> list[dict[str, int]]:
    try:
        found = parse_json(adapter.metadata.get(EDITS, "[]"))
        ranks = [{str(name): int(rank) for name, rank in each.items()} for each in found]
    except (ValueError, TypeError, AttributeError) as error:
        raise BadData(f"expected ranks by slot in the adapter's {EDITS}, found something else ({error})") from error
    return ranks


def _held(runner: Runner, adapter: Adapter) -> dict[str, Lora]:
    """The factors of every slot whose product is a plain one; of rank 0 where there are none."""
    held = {}
    for slot in runner.manifest.slots_of("lora"):
        none = Lora(np.zeros((slot.features_in, 0), np.float32), np.zeros((0, slot.features_out), np.float32), 1.0)
        known = adapter.lora.get(slot.name, none)
        if slot.groups == 1:
            held[slot.name] = known if known.scale else none
    return held


def _graphs(runner: Runner, adapter: Adapter, rows: Sequence[Row]) -> Graphs:
    samples = [row.sample for row in rows]
    forward, backward = runner.ready(samples), runner.ready(samples, training=True)

    def with_factors(factors: Factors) -> Adapter:
        heads = {} if adapter.head is None else {0: adapter.head}
        return replace(adapter, lora={**adapter.lora, **factors}, heads=heads)

    def gradient(
        factors: Factors, chosen: Sequence[int], labels: Labels
    ) -> tuple[float, Mapping[str, tuple[Array, Array]]]:
        pairs = [(i, int(label)) for i, label in zip(chosen, labels, strict=True)]
        sums = runner.gradients(backward, with_factors(factors), pairs)
        slots = {name: runner.manifest.slot(name) for name in factors}
        return sums.loss, {name: (sums.by_input[s.a], sums.by_input[s.b]) for name, s in slots.items()}

    def logits(factors: Factors, chosen: Sequence[int]) -> Array:
        return runner.forward(forward.part(chosen), with_factors(factors)).logits

    return Graphs(gradient, logits)
