"""From the journal to a version: contributions, shares, method, version. The same journal gives the same bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from console.errors import HubError
from hub.aggregation import biases, head_rows, scales
from hub.aggregation.method import Emitted, Method
from hub.aggregation.methods import method_of
from hub.aggregation.robust.rules import BY_NUMBERS
from hub.aggregation.shares import Shares, faded
from hub.fixes import making as fixes
from hub.making import by_numbers, contributions, importance, versions
from hub.making.contributions import Contribution, parts_of, took_part
from hub.making.model import Model
from hub.making.optimising import optimise, width
from hub.making.pace import slow_links
from hub.making.portions import portions
from hub.making.recipe import Recipe
from hub.making.weighing import weigh
from hub.masking import making as masking
from hub.privacy.promise import said
from hub.privacy.release import release as private
from hub.rounds.state import Round
from hub.store.registry import Home
from wire.adapter import Adapter
from wire.kinds.head import ROWS, Head, read_rows
from wire.kinds.lora import Lora
from wire.ladder import slot_key
from wire.scores import Score, read_scores


def make(home: Home, model: Model, rank: int, state: Round) -> versions.Made:
    """The version of a round of training or statistics.

    Raises:
        HubError: nothing comes of these updates.
        StorageError: blobs cannot be read or written.
    """
    parent = made_of(home, state.start)
    number = home.ledger.versions(model.id)[-1]["number"] + 1
    if state.kind == "fix":
        return fixes.make(home, parent, number, state)
    if state.secure is not None:
        return masking.make(home, model, state, state.secure, parent, number)
    rows = home.ledger.updates(state.number, state.update_kind, state.latest)
    if state.kind == "train":
        found = contributions.trained(home, model, rank, state)
        if state.private is not None:
            release = private(home, model, parent, found, state, state.private, number)
            version = versions.from_training(parent, number, state.number, model, release, home.blobs, home.key)
            return replace(version, notes=(said(state.private),), participants=parts_of(found))
        older = {c.base: made_of(home, c.base).version for c in found if c.staleness}
        plain = weigh(found, state.recipe, parent.version, home.blobs, older)
        shares = faded(plain, [c.staleness for c in found])
        mean = combine(home, model, parent, found, shares, state.recipe, number)
        made = _optimised(home, model, parent, mean, shares, state.recipe, number)
        made = replace(made, parents=tuple(sorted(set(older) - {parent.digest})))
        version = versions.from_training(parent, number, state.number, model, made, home.blobs, home.key)
        metrics, moved = importance.learned(home, model, state, parent.digest, number)
        notes = (
            *version.notes,
            *shares.notes,
            *moved,
            *slow_links(home, state, {one.device: one.metrics for one in found}),
        )
        return replace(version, notes=notes, participants=parts_of(found, shares.values.tolist()), metrics=metrics)
    sums = contributions.sums(home, model, state)
    version = versions.from_statistics(parent, number, state.number, sums, state.recipe, home.blobs, home.key)
    total = sum(row["samples"] for row in rows)
    return replace(version, participants=took_part(rows, [row["samples"] / max(1, total) for row in rows]))


def combine(
    home: Home,
    model: Model,
    parent: versions.Made,
    found: list[Contribution],
    shares: Shares,
    recipe: Recipe,
    number: int,
) -> versions.Trained:
    """One adapter out of many; one update is in memory at a time, and the sums of a portion of the slots.

    A slot that some boards do not hold is of those who do: their shares together are what all shares would be.
    """
    method, old = method_of(recipe.method), parent.version
    rank = width(recipe, old.rank)
    if recipe.robust in BY_NUMBERS:
        return by_numbers.combine(model, old, found, shares, recipe, rank, number, home.blobs)
    sent, sent_heads = versions.read_ladder(old, home.blobs), versions.read_heads(old, home.blobs)
    offsets, rows, lora = dict[str, biases.Mean](), None, dict[str, Emitted]()
    moved: scales.Means = {}
    own = {name: shares.among([one.has(name) for one in found]) for name in sent}
    for place, names in enumerate(portions(sent)):
        states, learned = {name: method.init(sent.pop(name)) for name in names}, set[str]()
        for index, (one, share) in enumerate(zip(found, shares.values.tolist(), strict=True)):
            if not share > 0:
                continue
            adapter = Adapter(model.id, lora=one.slots(names)) if place else one.read()
            lora_of = {name: factors for name, factors in adapter.lora.items() if name in states}
            counts = {name: float(own[name][index]) for name in lora_of}
            states, learned = _add_lora(home, method, states, one, lora_of, counts), learned | lora_of.keys()
            offsets = biases.apply(offsets, adapter.bias, share)
            moved = scales.apply(moved, adapter.scales, share)
            rows = _add_head(rows, adapter, sent_heads, model, shares.head_factors(index))
            del adapter, lora_of  # or the next one would be read beside it
        for name in sorted(learned):
            key = slot_key(model.id, name, number)
            lora[name] = method.finish(states.pop(name), rank, old.scale, key, 1.0)
    return versions.Trained(
        lora,
        biases.finish(offsets, versions.read_biases(old, home.blobs)),
        {} if rows is None else head_rows.finish(rows, sent_heads),
        scales.finish(moved, versions.read_scales(old, home.blobs)),
    )


def _optimised(
    home: Home,
    model: Model,
    parent: versions.Made,
    made: versions.Trained,
    shares: Shares,
    recipe: Recipe,
    number: int,
) -> versions.Trained:
    """The same after the server optimiser, which sees factors only: biases and heads are taken as they are."""
    keys = {name: slot_key(model.id, name, number) for name in made.lora}
    counted = int(np.count_nonzero(shares.values))
    lora, remembered = optimise(made.lora, parent.version, recipe, counted, keys, home.blobs)
    return replace(made, lora=lora, optimiser=remembered)


def _add_lora(
    home: Home,
    method: Method,
    states: dict[str, Any],
    one: Contribution,
    lora: dict[str, Lora],
    shares: dict[str, float],
) -> dict[str, Any]:
    """The sums of slots with one more update, by its change if it started from an older version."""
    if not one.staleness:
        return {**states, **{name: method.apply(states[name], w, shares[name]) for name, w in lora.items()}}
    if method.apply_stale is None:
        raise HubError(f"expected a method that can add an update of an older version, found {method.name}")
    bases = versions.read_ladder(made_of(home, one.base).version, home.blobs)
    add = method.apply_stale
    added = {n: add(states[n], bases[n].prefix(w.rank), w, shares[n]) for n, w in lora.items()}
    return {**states, **added}


def _add_head(
    rows: head_rows.Rows | None,
    adapter: Adapter,
    sent: dict[int, Head],
    model: Model,
    factors: tuple[float, float],
) -> head_rows.Rows | None:
    """The sum of heads with that of one more update, if it brought one."""
    count = read_rows(adapter.metadata.get(ROWS, ""))
    if not adapter.heads or count is None:
        return rows
    rank, head = next(iter(adapter.heads.items()))
    shape = model.features, len(model.labels)
    began = head_rows.began(sent, rank, *shape)
    return head_rows.apply(rows or head_rows.init(*shape), head, began, count, *factors)


def scores_of_round(home: Home, model: Model, number: int) -> dict[str, list[Score]]:
    """All scores that a round counts, by device."""
    return {
        row["device"]: read_scores(home.blobs.get(row["digest"]), len(model.labels), f"the scores of {row['device']}")
        for row in home.ledger.updates(number, "scores")
    }


def made_of(home: Home, digest: str) -> versions.Made:
    """A version of the ledger.

    Raises:
        HubError: there is none of that digest.
    """
    row = home.ledger.version(digest)
    if row is None:
        raise HubError(f"expected version {digest[:12]} in the ledger, found none; restore it from a backup")
    return versions.read_made(row)
