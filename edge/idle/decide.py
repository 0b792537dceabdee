"""Whether to train now: a pure function of what was sensed and what was told."""

from __future__ import annotations

from dataclasses import dataclass

from edge.idle.hours import parse_hours, within
from edge.idle.settings import Idle

COOLER_C = 5.0  # what has become too hot must cool down by so much
CALMER = 0.8  # and a load that was too high must fall to this share of its limit


@dataclass(frozen=True)
class Readings:
    """What was sensed.

    Attributes:
        minute: of the day, local time, from 0.
        others: share of all cores that other programs keep busy; None: not known yet.
        temperature_c: of the hottest place; None: the board does not tell.
        power: mains, battery or empty.
        quiet_s: since the last request to the local API.
        settled: whether the data has not changed for a while: no file is being written.
        begun: whether the training that is asked about has begun; requests then only pause it.
        waits: whether it waits now, so that it does not go on and off around a limit.
    """

    minute: int
    others: float | None = 0.0
    temperature_c: float | None = None
    power: str = ""
    quiet_s: float = float("inf")
    settled: bool = True
    begun: bool = False
    waits: bool = False


@dataclass(frozen=True)
class Go:
    """Train."""


@dataclass(frozen=True)
class Wait:
    """Do not train, because of this; a brief one is over in seconds, and nobody's business but the board's."""

    reason: str
    brief: bool = False


def decide(readings: Readings, settings: Idle) -> Go | Wait:
    """Whether to train; the first reason against it is told.

    >>> decide(Readings(minute=14 * 60), Idle(quiet_hours="22:00-06:00"))
    Wait(reason='it is 14:00, outside of the quiet hours 22:00-06:00', brief=False)
    >>> decide(Readings(minute=0, temperature_c=80.0), Idle())
    Wait(reason='the board has 80 °C, the limit is 75 °C', brief=False)
    """
    for ask in (_hours, _power, _heat, _load):
        if reason := ask(readings, settings):
            return Wait(reason)
    for ask in (_measuring, _requests, _data):
        if reason := ask(readings, settings):
            return Wait(reason, brief=True)
    return Go()


def _hours(readings: Readings, settings: Idle) -> str:
    if not settings.quiet_hours or within(parse_hours(settings.quiet_hours), readings.minute):
        return ""
    now = f"{readings.minute // 60:02d}:{readings.minute % 60:02d}"
    return f"it is {now}, outside of the quiet hours {settings.quiet_hours}"


def _power(readings: Readings, settings: Idle) -> str:
    return "the board runs on battery" if readings.power == "battery" and not settings.on_battery else ""


def _heat(readings: Readings, settings: Idle) -> str:
    if readings.temperature_c is None or not settings.temperature_c:
        return ""
    limit = settings.temperature_c - (COOLER_C if readings.waits else 0)
    if readings.temperature_c < limit:
        return ""
    return f"the board has {readings.temperature_c:.0f} °C, the limit is {limit:.0f} °C"


def _load(readings: Readings, settings: Idle) -> str:
    if settings.load >= 1 or readings.others is None:
        return ""
    limit = settings.load * (CALMER if readings.waits else 1)
    if readings.others <= limit:
        return ""
    return f"other programs keep {100 * readings.others:.0f} % of the cores busy, the limit is {100 * limit:.0f} %"


def _measuring(readings: Readings, settings: Idle) -> str:
    unknown = readings.others is None and settings.load < 1 and not readings.begun
    return "the load is being measured" if unknown else ""


def _requests(readings: Readings, settings: Idle) -> str:
    if readings.begun or readings.quiet_s >= settings.requests_s:
        return ""
    return f"the last request came less than {settings.requests_s:g} s ago"


def _data(readings: Readings, settings: Idle) -> str:
    return "" if readings.settled or readings.begun else "samples are being written"
