"""Whether the service lives, as systemd says it (`systemctl show`). The verdict is pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SHOWN = ("ActiveState", "SubState", "NRestarts", "StatusText", "UnitFileState")
STEADY_S = 5.0  # so long it must run without a restart
LIMIT_S = 180.0  # a slow card reads the libraries for the first time
RESTARTS = 3  # after so many nobody waits any longer

Verdict = Literal["healthy", "wait", "failed"]


@dataclass(frozen=True)
class Beat:
    """What systemd said at one moment."""

    at_s: float
    active: str
    restarts: int
    status: str
    enabled: str


def beat(at_s: float, text: str) -> Beat:
    r"""Read `systemctl show`'s lines.

    >>> beat(1.0, "ActiveState=active\nNRestarts=2\nStatusText=connected\n")
    Beat(at_s=1.0, active='active', restarts=2, status='connected', enabled='')
    """
    told: Mapping[str, str] = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    restarts = told.get("NRestarts", "0")
    return Beat(
        at_s,
        told.get("ActiveState", ""),
        int(restarts) if restarts.isdecimal() else 0,
        told.get("StatusText", ""),
        told.get("UnitFileState", ""),
    )


def steady(beats: list[Beat]) -> float:
    """Seconds for which it has run without a restart by now.

    >>> steady([Beat(0, "active", 0, "", ""), Beat(3, "active", 1, "", ""), Beat(7, "active", 1, "", "")])
    4
    """
    last = since = beats[-1]
    for one in reversed(beats):
        if one.active != "active" or one.restarts != last.restarts:
            break
        since = one
    return last.at_s - since.at_s


def verdict(beats: list[Beat], steady_s: float = STEADY_S) -> Verdict:
    """Healthy after `steady_s` without a restart; failed at LIMIT_S, or when it starts again and again."""
    last, first = beats[-1], beats[0]
    if last.restarts - first.restarts >= RESTARTS or last.active == "failed":
        return "failed"
    if last.active == "active" and steady(beats) >= steady_s:
        return "healthy"
    return "failed" if last.at_s - first.at_s >= LIMIT_S else "wait"
