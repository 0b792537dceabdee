"""The table `[idle]` of agent.toml: what training waits for (docs/agent.md)."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.idle.hours import parse_hours
from wire.record import at_least

REQUESTS_S = 10.0  # where there is no table


@dataclass(frozen=True)
class Idle:
    """What must be true for training to go on.

    Attributes:
        load: share of all cores that other programs may keep busy; 1: whatever they do.
        temperature_c: training waits from here on, and goes on 5 degrees below; 0: whatever it is.
        on_battery: whether it also goes on without mains power. A board that does not tell counts as on mains.
        quiet_hours: local time, "22:00-06:00": training goes on within these hours only; empty: at any time.
        requests_s: training does not begin for so long after a request to the local API.
    """

    load: float = field(default=0.5, metadata=at_least(0, 1))
    temperature_c: float = field(default=75.0, metadata=at_least(0, 150))
    on_battery: bool = False
    quiet_hours: str = ""
    requests_s: float = field(default=REQUESTS_S, metadata=at_least(0, 86400))


# a board that was told nothing trains whenever it is asked to, but not in between two requests
ALWAYS = Idle(load=1.0, temperature_c=0.0, on_battery=True)


def wrong_hours(idle: Idle) -> str:
    """What is wrong with its hours, as a sentence; empty: nothing."""
    if not idle.quiet_hours:
        return ""
    try:
        parse_hours(idle.quiet_hours)
    except ValueError as error:
        return str(error)
    return ""
