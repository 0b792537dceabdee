"""When a certificate is to be renewed, and by which clock. Pure: no I/O.

The present is what the hub said and how long ago that was, or what the board's clock shows, if that can be right: it
cannot before the time at which the certificate was made. So a clock at 1970 never puts a renewal off.
"""

from __future__ import annotations

from typing import NamedTuple

from edge.identity.record import Identity
from wire.clock import plausible

SHARE = 2 / 3  # of a certificate's life, after which it is renewed
SPREAD = 0.05  # of its life, by which boards of one day differ
LOOK_S = 6 * 3600.0  # the longest sleep: clocks are set meanwhile


class Said(NamedTuple):
    """What the hub said of the time, and when that was by a clock that nobody sets."""

    at_s: float
    steady_s: float


def present(identity: Identity, wall_s: float, steady_s: float, said: Said | None) -> float | None:
    """The present in seconds since 1970, or None if the hub must be asked."""
    if said is not None:
        return said.at_s + (steady_s - said.steady_s)
    return wall_s if plausible(wall_s, identity.at_s) else None


def due_at(identity: Identity, draw: float) -> float:
    """When to renew; `draw`, uniform in [0, 1), spreads the boards of a fleet.

    >>> due_at(Identity("farm", "barn", (), 0.0, 300.0), 0.0)
    200.0
    """
    life_s = max(0.0, identity.expires_at_s - identity.at_s)
    return identity.at_s + life_s * (SHARE - SPREAD * draw)
