"""What a board adds to a sum under masks: the numbers of its job as integers, and then the same under masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from console.errors import BadData
from edge.train import TrainSettings
from wire.files import read_bytes
from wire.kinds.head import Statistics
from wire.kinds.lora import Lora
from wire.kinds.pairs import Directions
from wire.masks import layout, of_b, pairwise
from wire.masks import of_scalars as of_scalars_
from wire.masks.fixed_point import encode
from wire.masks.told import Told


def of_statistics(found: Mapping[int, Statistics], told: Told) -> bytes:
    """Sums by rank.

    Raises:
        BadData: a number is beyond the bound.
    """
    first = next(iter(found.values()))
    place = layout.of_statistics(tuple(found), *first.sum.shape)
    return encode(place.flat(layout.from_statistics(found)), told.bound, told.fraction_bits).tobytes()


def of_training(
    trained: Mapping[str, Lora], started: Mapping[str, Lora], rows: int, settings: TrainSettings, told: Told
) -> bytes:
    """The change of B.

    Raises:
        BadData: the job lets more learn than B, or a number is beyond the bound.
    """
    if settings.factors != "b" or settings.kinds != ("lora",) or settings.head or settings.trainer != "backprop":
        raise BadData("expected a job that trains B alone for a sum under masks, found another; nothing was sent")
    place = of_b.layout({slot: w.b.shape[1] for slot, w in trained.items()}, told.width)
    return encode(place.flat(of_b.arrays(trained, started, rows, told)), told.bound, told.fraction_bits).tobytes()


def of_scalars(found: Directions, rows: int, settings: TrainSettings, told: Told) -> bytes:
    """The derivatives of one step along directions that all boards share.

    Raises:
        BadData: the job asks for more steps than one, or directions are not those of all boards.
    """
    counters, scalars = [counter for counter, _ in found.pairs], [scalar for _, scalar in found.pairs]
    if (
        not settings.shared
        or settings.steps != 1
        or found.told.rank != told.width
        or counters != list(range(len(counters)))
    ):
        raise BadData(
            f"expected one step at rank {told.width} along directions that boards share for a sum under masks, found "
            f"{settings.steps} at rank {found.told.rank}; nothing was sent"
        )
    place = of_scalars_.layout(len(scalars))
    return encode(place.flat(of_scalars_.arrays(scalars, rows, told)), told.bound, told.fraction_bits).tobytes()


def mask(settings: Mapping[str, Any]) -> bytes:
    """The numbers of a file with the masks of some seeds added and those of others taken away.

    Args:
        settings: `vector`, the file; `plus` and `minus`, the seeds.
    """
    words = np.frombuffer(read_bytes(Path(settings["vector"]), "what a job made for a sum"), "<u8").copy()
    return pairwise.add(words, settings["plus"], settings["minus"]).tobytes()
