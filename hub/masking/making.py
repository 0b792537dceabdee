"""From the ledger to a version of a sum under masks: the same formulas as of single updates, fed with their sum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from console.errors import HubError
from hub.making import versions
from hub.making.contributions import took_part
from hub.making.model import Model
from hub.masking.secure import Secure
from hub.masking.training import trained
from hub.masking.unmask import Revealed, opened
from hub.rounds.state import Round
from hub.store.registry import Home
from wire.envelope import body_of
from wire.kinds.head import Statistics
from wire.masks import layout as layouts
from wire.masks import of_b, of_scalars
from wire.masks.layout import Layout
from wire.messages import MaskKeys, MaskReveal, decode


def layout_of_round(model: Model, state: Round, secure: Secure) -> Layout:
    """What the vectors of a round hold."""
    if state.kind == "statistics":
        return layouts.of_statistics(state.statistics_ranks, len(model.labels), model.features)
    if state.settings.get("trainer") == "spry":
        return of_scalars.layout(state.settings["directions"])
    return of_b.layout({slot.name: slot.features_out for slot in model.slots}, secure.told.width)


def make(home: Home, model: Model, state: Round, secure: Secure, parent: versions.Made, number: int) -> versions.Made:
    """The version of a sum.

    Raises:
        HubError: it cannot be opened, or nothing comes of it.
        StorageError: blobs cannot be read or written.
    """
    rows = home.ledger.updates(state.number, "masked")
    layout = layout_of_round(model, state, secure)
    blobs = (home.blobs.get(row["digest"]) for row in rows)
    total = opened(_revealed(home, state, secure), blobs, layout.size)
    arrays = layout.split(total, len(secure.survivors))
    if state.kind == "statistics":
        sums = layouts.to_statistics(arrays, state.statistics_ranks)
        made = versions.from_statistics(
            parent, number, state.number, _checked(sums), state.recipe, home.blobs, home.key
        )
        note = f"{round(float(next(iter(sums.values())).count.sum()))} rows in all"
    else:
        found = trained(home, model, state, secure, arrays, parent, number)
        made = versions.from_training(parent, number, state.number, model, found, home.blobs, home.key)
        note = f"{round(float(arrays[of_b.ROWS]))} rows in all"
    who = tuple({**part, "samples": None} for part in took_part(rows))
    return replace(made, notes=(*made.notes, note), participants=who)


def _revealed(home: Home, state: Round, secure: Secure) -> Revealed:
    keys = {n: decode(body_of(b, "keys"), MaskKeys) for n, b in said(home, state.number, "keys").items()}
    reveals = {n: decode(b, MaskReveal) for n, b in said(home, state.number, "reveals").items()}
    roster = {name: keys[name] for name in secure.roster}
    return Revealed(secure.told, roster, secure.maskers, secure.survivors, reveals)


def said(home: Home, number: int, stage: str) -> dict[str, bytes]:
    """What boards said at a stage of a round, by name."""
    return {row["device"]: bytes(row["body"]) for row in home.ledger.masks(number, stage)}


def _checked(sums: dict[int, Statistics]) -> Iterator[dict[int, Statistics]]:
    """The one door for what single updates are checked for, as far as their sum can be."""
    wild = [r for r, s in sums.items() if (s.count < 0).any() or (np.diagonal(s.gram) < -1e-6).any()]
    if wild:
        raise HubError(f"expected sums of rows at rank {wild[0]}, found none that rows can have; see who took part")
    yield sums
