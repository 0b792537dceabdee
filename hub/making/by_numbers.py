"""One adapter out of many by a rule that looks at each number by itself: median, trimmed mean (Yin et al.).

Whole matrices of changes are made a block of rows at a time; of the result, one slot is whole in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hub.aggregation.blocks import reduced
from hub.aggregation.gram import Changes, Read
from hub.aggregation.method import Array, Emitted
from hub.aggregation.products import changes
from hub.aggregation.robust.rules import BY_NUMBERS
from hub.aggregation.shares import Shares
from hub.making import versions
from hub.making.contributions import Contribution
from hub.making.model import Model
from hub.making.recipe import Recipe
from hub.making.weighing import BIAS, readers_of
from hub.store.blobs import Blobs
from wire.kinds.lora import Lora
from wire.ladder import decompose, emit, slot_key
from wire.messages import Version


def combine(
    model: Model,
    started: Version,
    found: Sequence[Contribution],
    shares: Shares,
    recipe: Recipe,
    rank: int,
    number: int,
    blobs: Blobs,
) -> versions.Trained:
    """Slots at a rank, and changes of biases; what was sent, and on each number the middle of all changes.

    Of a slot those vote that hold it; where these are fewer than the rule needs it stays as it was sent.

    Raises:
        StorageError: blobs cannot be read.
    """
    whole, rule = readers_of(found, started, blobs), BY_NUMBERS[recipe.robust]
    learned = {name for read in whole for name in read()}  # and each is found right, or its slots could not be read
    total = float(shares.values.sum())
    ladder, began = versions.read_ladder(started, blobs), versions.read_biases(started, blobs)
    readers = [partial(_some, one, read, ladder) for one, read in zip(found, whole, strict=True)]
    votes = {name: [one.has(name) for one in found] for name in learned if not name.startswith(BIAS)}
    few = {name for name, has in votes.items() if sum(has) < rule.least(recipe.bounds)}
    lora: dict[str, Emitted] = {}
    biases: dict[str, NDArray[np.float32]] = dict(began)

    def reduce(part: str, numbers: Array) -> Array:
        has = votes.get(part, [True] * len(found))
        return rule.reduce(numbers[has], shares.values[has], recipe.bounds)

    for name, moved in reduced(readers, _shapes(model, learned - few), reduce):
        if name.startswith(BIAS):
            bias = name.removeprefix(BIAS)
            biases[bias] = np.asarray(began.get(bias, 0.0) + total * moved[0], np.float32)
        else:
            key = slot_key(model.id, name, number)
            lora[name] = _slot(ladder[name], total * moved, rank, started.scale, key)
    return versions.Trained(lora, biases)


def _some(one: Contribution, whole: Read, ladder: Mapping[str, Lora], parts: Collection[str]) -> Changes:
    """Some parts of an update: of slots alone no more is read than those."""
    return whole() if any(p.startswith(BIAS) for p in parts) else changes(one.slots(parts), ladder)


def _shapes(model: Model, learned: set[str]) -> Mapping[str, tuple[int, int]]:
    slots = {s.name: (s.features_in, s.features_out) for s in model.slots}
    biases = {BIAS + name: (1, size) for name, size in model.biases}
    return {name: shape for name, shape in (slots | biases).items() if name in learned}


def _slot(sent: Lora, moved: Array, rank: int, scale: float, key: int) -> Emitted:
    whole = sent.product() + moved
    kept = decompose(whole, rank)
    return Emitted(*emit(kept, rank, scale, key), kept.tail, float(np.linalg.norm(whole)))
