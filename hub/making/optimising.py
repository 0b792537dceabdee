"""The server optimiser of a round: from what the method made of a slot to what the version holds, slot by slot."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hub.aggregation.method import Array, Emitted
from hub.aggregation.optimisers.optimiser import Settings
from hub.aggregation.optimisers.optimisers import optimiser_of
from hub.aggregation.products import Change
from hub.making import remembering, versions
from hub.making.recipe import Recipe
from hub.store.blobs import Blobs
from wire.kinds.lora import Lora
from wire.ladder import decompose, emit, refactor
from wire.messages import Version

WIDTH = 2  # times the hub's rank: what an optimiser is given of a mean, so that less is cut off before it than after


def width(recipe: Recipe, rank: int) -> int:
    """At which rank a method hands over its mean."""
    return rank if recipe.takes_the_mean else WIDTH * rank


def rate_of(recipe: Recipe, participants: int) -> float:
    """The rate of a round.

    With `server_cohort` it grows by the square root of how many boards there are in relation to it (Charles et al.,
    "On Large-Cohort Training for Federated Learning", arXiv 2106.07820, section 5).

    >>> rate_of(Recipe(server_rate=0.5, server_cohort=4), 16)
    1.0
    """
    usual = optimiser_of(recipe.optimiser).usual_rate
    rate = usual if recipe.server_rate is None else recipe.server_rate
    return rate * math.sqrt(participants / recipe.server_cohort) if recipe.server_cohort else rate


def optimise(
    made: Mapping[str, Emitted],
    parent: Version,
    recipe: Recipe,
    participants: int,
    keys: Mapping[str, int],
    blobs: Blobs,
) -> tuple[dict[str, Emitted], str]:
    """The slots of the next version, and the blob of what is remembered with it.

    Args:
        made: the mean of each slot that learned.
        parent: the version that boards started from.
        recipe: of the round.
        participants: how many boards count.
        keys: of spare directions, by slot.
        blobs: of the hub.

    Raises:
        BadData: what is to be remembered does not fit float32.
        StorageError: blobs cannot be read or written.
    """
    if recipe.takes_the_mean:
        return dict(made), ""
    optimiser, ladder = optimiser_of(recipe.optimiser), versions.read_ladder(parent, blobs)
    settings = Settings(rate_of(recipe, participants), recipe.server_beta1, recipe.server_beta2, WIDTH * parent.rank)
    slots, found = remembering.slots_of(blobs, parent.optimiser, optimiser.name), {}
    for name, mean in made.items():
        state = remembering.read_slot(blobs, slots[name]) if name in slots else {}
        sent = ladder[name]
        whole, after = optimiser.step(_product(sent), _change(mean, sent, parent.scale), state, settings)
        found[name] = _ladder(whole, parent.rank, parent.scale, keys[name])
        if after:
            slots[name] = remembering.put_slot(blobs, after)
    return found, remembering.put_slots(blobs, optimiser.name, slots)


def _ladder(whole: Change | Array, rank: int, scale: float, key: int) -> Emitted:
    """The best ladder of a product, or of a whole matrix."""
    kept = refactor(whole.left, whole.right, rank) if isinstance(whole, Change) else decompose(whole, rank)
    return Emitted(*emit(kept, rank, scale, key), kept.tail, float(np.hypot(np.linalg.norm(kept.s), kept.tail)))


def _product(sent: Lora) -> Change:
    return Change(sent.scale * sent.a.astype(np.float64), sent.b.astype(np.float64))


def _change(mean: Emitted, sent: Lora, scale: float) -> Change:
    """What the mean changes of a slot."""
    before = _product(sent)
    left = np.concatenate([scale * mean.a, -before.left], axis=1)
    return Change(left, np.concatenate([mean.b, before.right]))
