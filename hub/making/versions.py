"""Versions: how the state of an adapter is cut into blobs, signed, and read back.

Version 0 is made when the first bundle is added: all directions are spare, nothing is known. A round of training
makes new rungs and keeps the head; a round of statistics keeps the rungs and makes a new head. Edits, which fixes made,
stay on top of whatever head there is until they are undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import HubError, join
from hub.aggregation.method import Emitted
from hub.making import heads
from hub.making.model import Model
from hub.making.recipe import Recipe
from hub.store.blobs import Blobs
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.envelope import seal
from wire.files import digest
from wire.keys import PrivateKey
from wire.kinds import edit
from wire.kinds.head import Head, Statistics
from wire.kinds.lora import Lora, concatenate
from wire.kinds.scales import ScaleFactors
from wire.ladder import rungs, slot_key, spare_columns
from wire.messages import Edit, Rung, Version, decode, encode


@dataclass(frozen=True)
class Made:
    """A version with its bytes as they are signed and published."""

    version: Version
    body: bytes
    envelope: bytes
    cut: dict[str, list[float]] = field(default_factory=dict)  # slot: [cut off, norm of the whole]
    notes: tuple[str, ...] = ()  # what was decided when it was made, for people
    participants: tuple[dict[str, Any], ...] = ()  # device, samples, share of those whose updates are in it
    metrics: dict[str, Any] = field(default_factory=dict)  # what else was found when it was made

    @property
    def digest(self) -> str:
        """SHA-256 of the body: the name of the version."""
        return digest(self.body)


def first(model: Model, rank: int, scale: float, blobs: Blobs, key: PrivateKey) -> Made:
    """Version 0: seeded directions that carry nothing, and no head."""
    ladder = {
        s.name: Lora(
            spare_columns(s.features_in, rank, slot_key(model.id, s.name, 0)).astype(np.float32),
            np.zeros((rank, s.features_out), np.float32),
            scale,
        )
        for s in model.slots
    }
    version = Version(model.id, 0, "", rank, scale, _put_rungs(model, ladder, rank, blobs), model.labels)
    return _sign(version, key, {name: [0.0, 0.0] for name in ladder})


@dataclass(frozen=True)
class Trained:
    """What a round of training made of its updates: slots, changes of biases, heads by rank, scales.

    What is empty stays as it was.
    """

    lora: Mapping[str, Emitted]
    bias: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    heads: Mapping[int, Head] = field(default_factory=dict)
    scales: ScaleFactors | None = None
    optimiser: str = ""  # blob of what the server optimiser remembers
    parents: tuple[str, ...] = ()  # digests of earlier versions that updates in it started from, besides the parent


def from_training(
    parent: Made,
    number: int,
    round_number: int,
    model: Model,
    made: Trained,
    blobs: Blobs,
    key: PrivateKey,
) -> Made:
    """The version after a round of training, from what was made of its updates; slots that nobody held stay.

    Raises:
        HubError: the result does not fit float32.
    """
    old = parent.version
    ladder = {n: Lora(e.a.astype(np.float32), e.b.astype(np.float32), old.scale) for n, e in made.lora.items()}
    wild = [name for name, w in ladder.items() if not (np.isfinite(w.a).all() and np.isfinite(w.b).all())]
    wild += [name for name, delta in made.bias.items() if not np.isfinite(delta).all()]
    if wild:
        raise HubError(f"expected a finite aggregate, but slot {join(wild)} is not; look at the updates of this round")
    cut = {name: [e.tail, e.norm] for name, e in made.lora.items()}
    changed: dict[str, Any] = {"optimiser": made.optimiser if ladder else old.optimiser, "parents": made.parents}
    if ladder:
        kept_slots = read_ladder(old, blobs) if any(slot.name not in ladder for slot in model.slots) else {}
        cut |= {name: [0.0, 0.0] for name in kept_slots if name not in ladder}
        changed["rungs"] = _put_rungs(model, {**kept_slots, **ladder}, old.rank, blobs)
    if made.bias or made.scales is not None:
        kept = _read_others(old, blobs)
        others = Adapter(model.id, bias=dict(made.bias) or kept.bias, scales=made.scales or kept.scales)
        changed["others"], changed["others_bytes"] = _put(blobs, others)
    if made.heads:
        bare = edit.apply(made.heads, read_edits(old, blobs), -1.0)  # the edits stay on top, to be undone one by one
        changed["head"], changed["head_bytes"] = _put(blobs, Adapter(model.id, heads=bare))
    return _sign(_child(parent, number, round_number, **changed), key, cut)


def from_statistics(
    parent: Made,
    number: int,
    round_number: int,
    updates: Iterable[dict[int, Statistics]],
    recipe: Recipe,
    blobs: Blobs,
    key: PrivateKey,
) -> Made:
    """The version after a round of statistics: the same rungs, and for each rank a head solved from the sums."""
    total: dict[int, Statistics] = {}
    for by_rank in updates:
        for rank, sums in by_rank.items():
            total[rank] = total[rank] + sums if rank in total else sums
    if not any(sums.count.any() for sums in total.values()):
        raise HubError("expected rows in the statistics of this round, found none; check the data of the devices")
    ways = {rank: heads.chosen(sums, recipe.head) for rank, sums in total.items()}
    solved = {
        rank: heads.solve(sums, ways[rank], recipe.head_strength, recipe.head_order) for rank, sums in total.items()
    }
    head, size = _put(blobs, Adapter(parent.version.model, heads=solved))
    child = _child(parent, number, round_number, head=head, head_bytes=size)
    kept = [f"on top of it still: {join([f'fix {one.fix}' for one in child.edits])}"] if child.edits else []
    return replace(_sign(child, key, {}), notes=(f"head by {join(sorted(set(ways.values())))}", *kept))


def with_edits(parent: Made, number: int, round_number: int, edits: tuple[Edit, ...], key: PrivateKey) -> Made:
    """A version like its parent but for the edits on top of its heads: all else is the same, blob by blob."""
    return _sign(_child(parent, number, round_number, edits=edits), key, {})


def read_ladder(version: Version, blobs: Blobs, rank: int | None = None) -> dict[str, Lora]:
    """The ladder of a version by slot, whole or its first `rank` directions."""
    pieces: dict[str, list[Lora]] = {}
    for rung in sorted(version.rungs, key=lambda r: r.low):
        for name, factors in read_adapter(blobs.get(rung.blob), f"rung {rung.blob[:12]}").lora.items():
            pieces.setdefault(name, []).append(factors)
    ladder = {name: concatenate(parts) for name, parts in pieces.items()}
    return ladder if rank is None else {name: whole.prefix(rank) for name, whole in ladder.items()}


def read_start(digest: str, version: Version, blobs: Blobs, rank: int) -> Adapter:
    """What a board of a rank begins with: the prefix of the ladder, all heads, changes of biases."""
    lora, others = read_ladder(version, blobs, rank), _read_others(version, blobs)
    return Adapter(version.model, digest, lora, others.bias, read_heads(version, blobs), scales=others.scales)


def read_heads(version: Version, blobs: Blobs) -> dict[int, Head]:
    """The heads of a version by rank, with its edits on top; empty while no class is known."""
    heads = read_adapter(blobs.get(version.head), f"heads {version.head[:12]}").heads if version.head else {}
    return edit.apply(heads, read_edits(version, blobs))


def read_edits(version: Version, blobs: Blobs) -> list[edit.Edits]:
    """The edits of a version, in their order."""
    return [read_adapter(blobs.get(one.blob), f"edit {one.blob[:12]}").edits for one in version.edits]


def read_biases(version: Version, blobs: Blobs) -> dict[str, NDArray[np.float32]]:
    """The changes of biases of a version; empty while none was trained."""
    return _read_others(version, blobs).bias


def read_scales(version: Version, blobs: Blobs) -> ScaleFactors | None:
    """The factors of scales of a version; None while none was moved."""
    return _read_others(version, blobs).scales


def _read_others(version: Version, blobs: Blobs) -> Adapter:
    if not version.others:
        return Adapter(version.model)
    return read_adapter(blobs.get(version.others), f"others {version.others[:12]}")


def read_made(row: Mapping[str, Any]) -> Made:
    """A version from its row in the ledger."""
    return Made(decode(row["body"], Version), row["body"], row["envelope"], row["cut"])


def blob_names(version: Version) -> set[str]:
    """What devices may fetch of a version."""
    pieces = {rung.blob for rung in version.rungs} | {one.blob for one in version.edits}
    return pieces | ({version.head, version.others} - {""})


def _put(blobs: Blobs, adapter: Adapter) -> tuple[str, int]:
    """Keep an adapter file; its name and its size."""
    data = to_bytes(adapter)
    return blobs.put(data), len(data)


def _put_rungs(model: Model, ladder: dict[str, Lora], rank: int, blobs: Blobs) -> tuple[Rung, ...]:
    made = []
    for low, high in rungs(rank):
        piece = {n: Lora(w.a[:, low:high], w.b[low:high], w.scale) for n, w in sorted(ladder.items())}
        data = to_bytes(Adapter(model.id, lora=piece))
        made.append(Rung(low, high, blobs.put(data), len(data)))
    return tuple(made)


def _child(parent: Made, number: int, round_number: int, **changed: Any) -> Version:
    """A version like its parent but for what a round changed."""
    own: dict[str, Any] = {
        "version": number,
        "parent": parent.digest,
        "parents": (),
        "round": round_number,
        "extra": {},
    }
    return replace(parent.version, **{**own, **changed})


def _sign(version: Version, key: PrivateKey, cut: dict[str, list[float]]) -> Made:
    body = encode(version)
    return Made(version, body, seal(key, body), cut)
