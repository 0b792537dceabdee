"""Planned beside measured: by the bar of DESIGN for memory, and within a quarter for time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from console.table import table
from devices.memory import MIB, allowed_miss
from wire.record import plain

WITHIN = 0.25  # of the planned time
HEADER = (
    "board",
    "does",
    "planned MiB",
    "graphs MiB",
    "measured MiB",
    "miss",
    "bar",
    "most MiB",
    "planned ms",
    "wall ms",
    "own ms",
    "to planned",
    "",
)


@dataclass(frozen=True)
class Row:
    """What one device does: bytes above what a worker takes before its first session, and seconds of a step.

    Attributes:
        device: of the fleet.
        does: train, front, tail, request.
        planned_bytes: by the plan; 0: it does not say.
        graphs_bytes: as the bundle says it, once there are graphs.
        base_bytes: of the process before the job.
        peak_bytes: of every run.
        planned_s: 0: the plan does not say.
        wall_s: of every run.
        own_s: of every run: of the processor at the pace of the probe, and what is waited for.
        parts: of what the time is made, in seconds.
        most_bytes: of a front of several segments, and of a tail: its sessions stay open as far as its budget goes, so
            that it may take all of it, and the plan is the least; 0: it holds one at a time.
    """

    device: str
    does: str
    planned_bytes: int
    graphs_bytes: int
    base_bytes: int
    peak_bytes: Sequence[int]
    planned_s: float
    wall_s: Sequence[float]
    own_s: Sequence[float]
    parts: Mapping[str, float] = field(default_factory=dict)
    most_bytes: int = 0

    @property
    def measured_bytes(self) -> int:
        """Above the base; the median."""
        return round(statistics.median(self.peak_bytes)) - self.base_bytes

    @property
    def miss_bytes(self) -> int:
        """By how much the plan says more than was measured."""
        return self.planned_bytes - self.measured_bytes

    @property
    def allowed_bytes(self) -> int:
        """How far a prediction may be off."""
        return allowed_miss(self.measured_bytes, 0)

    @property
    def memory_holds(self) -> bool | None:
        """Whether the plan's memory is within the bar; None where it says nothing."""
        if not self.planned_bytes:
            return None
        if self.most_bytes:
            return self.miss_bytes <= self.allowed_bytes and self.measured_bytes <= self.most_bytes
        return abs(self.miss_bytes) <= self.allowed_bytes

    @property
    def ratio(self) -> float:
        """Time of the processor, with what is waited for, to what was planned."""
        return statistics.median(self.own_s) / self.planned_s if self.planned_s else 0.0

    @property
    def time_holds(self) -> bool | None:
        """Whether it is within a quarter of what was planned; None where nothing was."""
        return abs(self.ratio - 1) <= WITHIN if self.planned_s else None

    def cells(self) -> list[str]:
        """For a table with `HEADER`."""
        planned = [_mib(self.planned_bytes), _mib(self.graphs_bytes), _mib(self.measured_bytes)]
        miss = [f"{self.miss_bytes / MIB:+.1f}", _mib(self.allowed_bytes)] if self.planned_bytes else ["-", "-"]
        miss.append(_mib(self.most_bytes))
        times = [f"{1000 * statistics.median(own):.0f}" for own in (self.wall_s, self.own_s)]
        due = f"{1000 * self.planned_s:.0f}" if self.planned_s else "-"
        said = [word for word, holds in (("memory", self.memory_holds), ("time", self.time_holds)) if holds is False]
        verdict = f"{' and '.join(said)} missed" if said else "holds"
        return [
            self.device,
            self.does,
            *planned,
            *miss,
            due,
            *times,
            f"{self.ratio:.2f}" if due != "-" else "-",
            verdict,
        ]

    def as_json(self) -> dict[str, Any]:
        """With what follows from it."""
        names = ("measured_bytes", "miss_bytes", "allowed_bytes", "memory_holds", "ratio", "time_holds")
        return {**plain(self), **{name: getattr(self, name) for name in names}}


def shown(rows: Sequence[Row]) -> str:
    """All rows as a table."""
    return table(list(HEADER), [row.cells() for row in rows])


def warm(few: float, many: float, steps: tuple[int, int]) -> float:
    """A step without what comes once per job, from two jobs of so many steps.

    >>> warm(3.0, 7.0, (2, 10))
    0.5
    """
    return (many - few) / (steps[1] - steps[0])


def _mib(amount: int) -> str:
    return f"{amount / MIB:.1f}" if amount else "-"
