"""Fronts whose link was slower than planned, as their updates tell: a word for the version, so that somebody acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devices.split.pace import LINK_S, Pace, planned_of
from hub.rounds.state import Round
from hub.store.registry import Home
from wire.manifest import parse_manifest

STEP_S = "seconds_per_step"  # of what a board says of its training


def slow_links(home: Home, state: Round, told: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """A sentence for each front that waited for its link more than its plan says, by name.

    Args:
        home: the hub's folder, opened.
        state: the round.
        told: what the boards say beside their updates, by name.
    """
    found = []
    for seat in sorted(state.seats, key=lambda s: s.device):
        link, step = (told.get(seat.device, {}).get(name) for name in (LINK_S, STEP_S))
        if seat.front and seat.bundle and isinstance(link, (int, float)) and isinstance(step, (int, float)):
            slow = Pace(float(step), float(link)).slow(pace_of(home, seat.bundle))
            found += [f"{seat.device}: {slow}"] if slow else []
    return tuple(found)


def pace_of(home: Home, bundle: str) -> Pace | None:
    """What the plan of a bundle says of a step; None where it says nothing, or this hub does not know the bundle."""
    row = home.ledger.bundle(bundle)
    if row is None:
        return None
    return planned_of(parse_manifest(bytes(row["manifest"]), "a bundle in the ledger").plan.extra)
