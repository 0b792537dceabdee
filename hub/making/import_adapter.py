"""An adapter from elsewhere as a version of the hub: PEFT's folder or an adapter file, checked and re-factored.

The child of the tip: what the adapter does not hold (a slot, the biases, the head) stays as it is there, except that
with any LoRA factors all slots are replaced, since those that PEFT leaves out are zero. Its ladder is the best one of
the hub's rank (`wire.ladder.refactor`); the same adapter on the same tip gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from console.errors import BadData, HubError, join
from hub.aggregation import scales
from hub.aggregation.method import Emitted
from hub.making import versions
from hub.making.making import made_of
from hub.making.model import Model
from hub.serving.check import ENTRY_LIMIT, scale_problems
from hub.store import schema as t
from hub.store.blobs import Blobs
from hub.store.registry import Home, model, put_version
from hub.store.writes import put_row, put_tip
from wire.adapter import Adapter, read_adapter
from wire.files import read_bytes
from wire.kinds.lora import Lora
from wire.ladder import emit, refactor, slot_key
from wire.messages import UPDATE_LIMIT_BYTES
from wire.peft import CONFIG, read_head, read_peft


def import_adapter(home: Home, path: Path, now_s: float, of: str = "") -> dict[str, Any]:
    """Make a version of an adapter; work goes on from it, and nothing is released.

    Raises:
        HubError: the hub has no model, a round is under way that would leave the version behind, or the result does
            not fit float32.
        BadData, StorageError: as in `made_from`.
    """
    busy = [state.number for state in home.ledger.open_rounds(model(home, of).id) if state.kind != "evaluate"]
    if busy:
        raise HubError(
            f"expected no open round that makes a version, found round {busy[0]}; wait for it, or stop it with "
            f"`edgequilt hub round stop {busy[0]}`"
        )
    made = made_from(home, path, of)
    number = made.version.version
    with home.ledger.transaction() as tx:
        put_version(tx, made, 0, now_s)
        put_tip(tx, made.version.model, made.digest)
        text = f"version {number} was imported from {path.name}"
        put_row(tx, t.events, {"at_s": now_s, "round": None, "device": None, "text": text})
    return {
        "version": number,
        "digest": made.digest,
        "rank": made.version.rank,
        "has_head": bool(made.version.head),
        "tails": {slot: tail for slot, (tail, _) in made.cut.items()},
    }


def made_from(home: Home, path: Path, of: str = "") -> versions.Made:
    """The version that an adapter becomes; its blobs are written, the ledger does not know it yet.

    Raises:
        HubError: the hub has no model, or the result does not fit float32.
        BadData: it is no adapter of this model; everything that is wrong.
        StorageError: it cannot be read.
    """
    known = model(home, of)
    adapter = _read(path, known)
    problems = _problems(adapter, known)
    if problems:
        raise BadData(f"expected an adapter of {known.id} in {path}, but {join(problems)}; it was not imported")
    parent = made_of(home, home.ledger.tip(known.id))
    number = home.ledger.versions(known.id)[-1]["number"] + 1
    heads = {min(rank, parent.version.rank): head for rank, head in sorted(adapter.heads.items())}
    changed = _others(adapter, parent, home.blobs) if adapter.bias or adapter.scales is not None else {}
    trained = versions.Trained(_ladder(adapter, known, parent, number), heads=heads, **changed)
    return versions.from_training(parent, number, 0, known, trained, home.blobs, home.key)


def _others(adapter: Adapter, parent: versions.Made, blobs: Blobs) -> dict[str, Any]:
    """Biases and scales, which share a blob: those of the adapter, and of the parent where it has none."""
    moved = {} if adapter.scales is None else scales.apply({}, adapter.scales, 1.0)
    return {
        "bias": {**versions.read_biases(parent.version, blobs), **adapter.bias},
        "scales": scales.finish(moved, versions.read_scales(parent.version, blobs)),
    }


def _read(path: Path, known: Model) -> Adapter:
    if not path.is_dir():
        return read_adapter(read_bytes(path, "an adapter", UPDATE_LIMIT_BYTES), str(path))
    if not (path / CONFIG).exists():
        raise BadData(f"expected {CONFIG} in {path}, found none; name a folder that PEFT wrote, or an adapter file")
    lora = read_peft(path, known.slots)
    head = read_head(path, known.labels)
    # at rank 0 every board takes it: those below the adapter's rank would have none otherwise
    return Adapter(known.id, lora=lora, heads={} if head is None else {0: head})


def _problems(adapter: Adapter, known: Model) -> list[str]:
    """All that is wrong with an adapter for a model, as parts of a sentence."""
    problems = [] if adapter.model == known.id else [f"it belongs to model {adapter.model[:63]!r}"]
    if adapter.statistics:
        problems.append("it holds statistics, of which no version is made")
    if not (adapter.lora or adapter.bias or adapter.heads or adapter.scales):
        problems.append("it holds nothing")
    shapes = {s.name: (s.features_in, s.features_out) for s in known.slots}
    for name, factors in adapter.lora.items():
        found, wanted = (factors.a.shape[0], factors.b.shape[1]), shapes.get(name)
        if wanted is None:
            problems.append(f"slot {name} is not one of the model's")
        elif found != wanted:
            problems.append(f"slot {name} is [{found[0]}, {found[1]}] instead of [{wanted[0]}, {wanted[1]}]")
        elif factors.rank < 1:
            problems.append(f"slot {name} has rank 0")
        elif max(np.abs(factors.a).max(), np.abs(factors.b).max(), abs(factors.scale)) > ENTRY_LIMIT:
            problems.append(f"slot {name} has entries above {ENTRY_LIMIT:g}")
    problems += [] if adapter.scales is None else scale_problems(adapter.scales, known)
    places = dict(known.biases)
    problems += [f"the bias of {n} has no place" for n, d in adapter.bias.items() if d.shape != (places.get(n, -1),)]
    shape = (known.features, len(known.labels))
    problems += [
        f"the head of rank {rank} is {list(head.weight.shape)} instead of {list(shape)}"
        for rank, head in adapter.heads.items()
        if head.weight.shape != shape
    ]
    return problems


def _ladder(adapter: Adapter, known: Model, parent: versions.Made, number: int) -> dict[str, Emitted]:
    old, made = parent.version, {}
    for slot in known.slots if adapter.lora else ():
        empty = Lora(np.zeros((slot.features_in, 0), np.float32), np.zeros((0, slot.features_out), np.float32), 1.0)
        factors = adapter.lora.get(slot.name, empty)
        a, b = factors.scale * factors.a.astype(np.float64), factors.b.astype(np.float64)
        found = refactor(a, b, old.rank)
        pair = emit(found, old.rank, old.scale, slot_key(known.id, slot.name, number))
        norm = float(np.hypot(found.tail, np.linalg.norm(found.s)))
        made[slot.name] = Emitted(*pair, found.tail, norm)
    return made
