"""How much each update of a round counts: weights, then the robust rule over inner products of changes.

What was decided is said with names, for people: who was capped, shortened, left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.aggregation import head_rows, weights
from hub.aggregation.gram import Changes, gram, lengths
from hub.aggregation.method import Array
from hub.aggregation.products import Change, changes
from hub.aggregation.robust.rules import BY_NUMBERS, MEDIANS, RULES, enough
from hub.aggregation.shares import Shares, by_samples
from hub.making import versions
from hub.making.contributions import Contribution
from hub.making.recipe import Recipe
from hub.store.blobs import Blobs
from wire.adapter import Adapter
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.messages import Version

BIAS = "bias "  # before the name of a bias
MOST_NAMES = 5
NOTABLE = 0.5  # a board that counts less than this part of its share is named


def weigh(
    found: Sequence[Contribution],
    recipe: Recipe,
    started: Version,
    blobs: Blobs,
    older: Mapping[str, Version] = MappingProxyType({}),
) -> Shares:
    """How much each update counts.

    Args:
        found: the updates of a round.
        recipe: of the round.
        started: the version that their boards started from.
        blobs: of the hub.
        older: by digest, the versions that some of them started from instead.

    Raises:
        HubError: there are too few for the rule, or it leaves none.
        StorageError: blobs cannot be read.
    """
    plain = weighted(found, recipe)
    enough(recipe.robust, recipe.bounds, len(found))
    plain = replace(plain, notes=(*plain.notes, *_of_one(found, plain, recipe.robust)))
    if recipe.robust in BY_NUMBERS:
        return replace(plain, notes=(*plain.notes, f"{recipe.robust} of {len(found)} updates, number by number"))
    if recipe.robust not in RULES:
        return plain
    rule, bounds = RULES[recipe.robust], recipe.bounds
    readers = readers_of(found, started, blobs, older)
    known = gram(readers) if rule.pairs else lengths(readers)
    shares = rule.apply(known, plain, bounds)
    return replace(shares, notes=(*plain.notes, *said(rule.name, [one.device for one in found], plain, shares)))


def readers_of(
    found: Sequence[Contribution], started: Version, blobs: Blobs, older: Mapping[str, Version] = MappingProxyType({})
) -> list[Callable[[], Changes]]:
    """What reads, of each update, all that it changed of the version it started from: factors, biases and head."""
    parts = {base: _parts(version, blobs) for base, version in older.items()}
    usual = _parts(started, blobs)
    return [partial(_read, one, *parts.get(one.base, usual)) for one in found]


def _parts(started: Version, blobs: Blobs) -> tuple[dict[str, Lora], dict[str, NDArray[np.float32]], dict[int, Head]]:
    return (
        versions.read_ladder(started, blobs),
        versions.read_biases(started, blobs),
        versions.read_heads(started, blobs),
    )


def _read(
    one: Contribution, ladder: dict[str, Lora], biases: dict[str, NDArray[np.float32]], heads: dict[int, Head]
) -> Changes:
    return changes_of(one.read(), ladder, biases, heads)


def weighted(found: Sequence[Contribution], recipe: Recipe) -> Shares:
    """The shares before any rule, and who was capped."""
    rows = [one.samples for one in found]
    if recipe.weights == "uniform":
        return by_samples(weights.uniform(len(rows)).tolist())
    if recipe.weights == "risk":
        raw = weights.risk(rows, [loss_of(one.metrics) for one in found], recipe.risk_power)
    else:
        raw = weights.samples(rows)
    kept = weights.capped(raw, recipe.weights_cap)
    shares, part = by_samples(kept.tolist()), kept / raw
    cut = [f"{one.device} to {p:.2g} of it" for one, p in zip(found, part, strict=True) if p < 1]
    if not cut:
        return shares
    note = f"weights above {recipe.weights_cap:g} times the median were cut: {_some(cut)}"
    return replace(shares, notes=(note,), trust=part)


def _of_one(found: Sequence[Contribution], shares: Shares, rule: str) -> tuple[str, ...]:
    """Says so where a rule that holds against less than half of all shares meets a board that has half or more."""
    most = int(np.argmax(shares.values))
    if rule not in MEDIANS or shares.values[most] < 0.5:
        return ()
    return (f"{found[most].device} alone has half of all shares or more, so {rule} follows it",)


def loss_of(metrics: Mapping[str, Any]) -> float | None:
    """What a board says of its loss at the version that it was sent: of its first batch, before it learned."""
    loss = metrics.get("loss_first", metrics.get("loss"))
    return float(loss) if isinstance(loss, (int, float)) else None


def changes_of(
    adapter: Adapter,
    ladder: Mapping[str, Lora],
    biases: Mapping[str, NDArray[np.float32]],
    heads: Mapping[int, Head],
) -> dict[str, Change]:
    """All that a board changed, by part: slots as products, biases and head as single rows."""
    found = changes(adapter.lora, ladder)
    for name, delta in adapter.bias.items():
        found[BIAS + name] = _row(delta.astype(np.float64) - biases.get(name, np.zeros(delta.shape)))
    for rank, head in adapter.heads.items():
        began = head_rows.began(dict(heads), rank, *head.weight.shape)
        moved = [head.weight.astype(np.float64) - began.weight, head.bias.astype(np.float64) - began.bias]
        found["head"] = _row(np.concatenate([m.ravel() for m in moved]))
    return found


def said(rule: str, names: Sequence[str], before: Shares, after: Shares) -> tuple[str, ...]:
    """What a rule decided, for people.

    >>> from hub.aggregation.shares import trusted
    >>> halves = Shares(np.array([0.5, 0.5]))
    >>> said("krum", ["a", "b"], halves, trusted(halves, np.array([1.0, 0.0])))
    ('krum left out b',)
    """
    trust = np.array([after.head_factors(i)[0] / before.head_factors(i)[0] for i in range(len(names))])
    passed = np.array([after.head_factors(i)[1] for i in range(len(names))])
    out = [name for name, t in zip(names, trust, strict=True) if t == 0]
    less = [
        f"{name} {v:.2g} instead of {b:.2g}"
        for name, t, v, b in zip(names, trust, after.values, before.values, strict=True)
        if 0 < t < NOTABLE
    ]
    cut = [f"{name} to {p:.2g} of its length" for name, t, p in zip(names, trust, passed, strict=True) if t and p < 1]
    told = (("left out", out), ("lets count", less), ("shortened", cut))
    found = tuple(f"{rule} {what} {_some(some)}" for what, some in told if some)
    return found or (f"{rule} found nothing to change",)


def _some(texts: Sequence[str]) -> str:
    """The first few of many."""
    more = len(texts) - MOST_NAMES
    return ", ".join(texts[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _row(values: Array) -> Change:
    return Change(np.ones((1, 1)), values[None])
