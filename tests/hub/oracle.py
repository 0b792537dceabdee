"""What the versions of rounds of training must be, from the journal alone, with whole matrices in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hub.making import versions
from tests.hub.world import World
from wire.adapter import read_adapter

Array = NDArray[np.float64]


def check_versions(world: World, number: int) -> int:
    """Every version of a round is its parent plus what the updates of its lap changed of what they started from.

    Each update counts by its rows and by 1 / sqrt(1 + the versions made since its base). Returns the number of
    updates that started from an older version than the one before.
    """
    home = world.hub.home
    rows = home.ledger.updates(number, "adapter")
    made = [row for row in home.ledger.versions() if row["round"] == number]
    numbers = {row["digest"]: row["number"] for row in home.ledger.versions()}
    assert {row["lap"] for row in rows} == set(range(len(made)))
    stale = 0
    for lap, version in enumerate(made):
        whole = products(world, version["parent"])
        mine = [row for row in rows if row["lap"] == lap]
        total = sum(row["samples"] for row in mine)
        for row in mine:
            missed = numbers[version["parent"]] - numbers[row["base"]]
            assert row["staleness"] == missed
            stale += missed > 0
            share = row["samples"] / total / np.sqrt(1 + missed)
            trained = read_adapter(home.blobs.get(row["digest"]), "an update").lora
            rank = world.devices[row["device"]].rank
            before = products(world, row["base"], rank)
            for slot, factors in trained.items():
                whole[slot] = whole[slot] + share * (factors.product() - before[slot])
        for slot, found in products(world, version["digest"]).items():
            wanted = whole[slot]
            assert np.linalg.norm(found - wanted) < 1e-6 * (1 + np.linalg.norm(wanted))  # factors travel in float32
    return stale


def products(world: World, digest: str, rank: int | None = None) -> dict[str, Array]:
    """A version's first `rank` directions of each slot, multiplied out."""
    home = world.hub.home
    row = home.ledger.version(digest)
    assert row is not None
    ladder = versions.read_ladder(versions.read_made(row).version, home.blobs, rank)
    return {slot: factors.product() for slot, factors in ladder.items()}
