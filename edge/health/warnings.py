"""Which of a board's readings are worth a word. Pure, and with two limits each: what hovers at one is said once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edge.health.readings import Health

MIB = 1 << 20


class Limit(NamedTuple):
    """A warning begins beyond `begins` and ends on the near side of `ends`; `falls`: low values are the bad ones."""

    value: Callable[[Health], float | None]
    begins: float
    ends: float
    falls: bool = False


# Raspberry Pis slow down from 80 to 85 degrees, Jetsons from 95 or so; a bundle is refused below 32 MiB of disk
LIMITS = {
    "hot": Limit(lambda h: h.temperature_c, 80.0, 75.0),
    "under-voltage": Limit(lambda h: h.under_voltage, 1, 0),
    "throttled": Limit(lambda h: h.throttled, 1, 0),
    "memory-low": Limit(lambda h: h.memory_available_bytes, 48 * MIB, 64 * MIB, True),
    "disk-low": Limit(lambda h: h.disk_free_bytes, 100 * MIB, 150 * MIB, True),
}
SAYS = {
    "hot": "the board is hot: give it air or a heat sink",
    "under-voltage": "the power supply is too weak: use the board's own, and a short thick cable",
    "throttled": "the board runs slower than it could, for heat or a weak supply",
    "memory-low": "hardly any memory is left: end other programs, or assign a smaller bundle",
    "disk-low": "the disk is nearly full: free some space",
}


def warnings(health: Health, before: frozenset[str] = frozenset()) -> frozenset[str]:
    """The names of `LIMITS` that hold now, given those that held before; what is unknown warns of nothing.

    >>> sorted(warnings(Health(temperature_c=81)))
    ['hot']
    >>> sorted(warnings(Health(temperature_c=78), frozenset({"hot"}))), sorted(warnings(Health(temperature_c=78)))
    (['hot'], [])
    """
    return frozenset(name for name, limit in LIMITS.items() if _holds(limit, health, name in before))


def _holds(limit: Limit, health: Health, held: bool) -> bool:
    value = limit.value(health)
    if value is None:
        return False
    if limit.falls:
        return value < (limit.ends if held else limit.begins)
    return value > limit.ends if held else value >= limit.begins
