"""What the kernel says of the board's load and heat (proc(5), sysfs); what it does not say is None."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

IDLE, IOWAIT, GUEST = 3, 4, 8  # columns of the line `cpu`; from GUEST on they are counted in others already


@dataclass(frozen=True)
class Ticks:
    """Clock ticks since the board started: of all cores, of those that did something, and of our own processes."""

    all: int
    busy: int
    ours: int


def ticks(pids: Iterable[int], root: Path = Path("/")) -> Ticks | None:
    """Now; `pids` are our own processes."""
    try:
        first = (root / "proc/stat").read_text(encoding="ascii").splitlines()[0].split()
        columns = [int(value) for value in first[1 : 1 + GUEST]]
        idle = sum(columns[IDLE : IOWAIT + 1])
    except (OSError, ValueError, IndexError):
        return None
    return Ticks(sum(columns), sum(columns) - idle, sum(_of(pid, root) for pid in pids))


def _of(pid: int, root: Path) -> int:
    """Ticks of a process and of its children that have ended."""
    try:
        fields = (root / f"proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return sum(int(value) for value in fields[11:15])  # utime, stime, cutime, cstime
    except (OSError, ValueError):
        return 0


def others(before: Ticks, after: Ticks) -> float | None:
    """The share of all cores that other programs kept busy in between.

    >>> others(Ticks(100, 50, 10), Ticks(200, 130, 70))
    0.2
    """
    passed = after.all - before.all
    if passed <= 0:
        return None
    return min(1.0, max(0.0, (after.busy - before.busy - (after.ours - before.ours)) / passed))


def hottest(root: Path = Path("/")) -> float | None:
    """Degrees Celsius of the hottest zone that the kernel watches."""
    zones = (root / "sys/class/thermal").glob("thermal_zone*/temp")
    return max((degrees for path in zones if (degrees := _degrees(path)) is not None), default=None)


def _degrees(path: Path) -> float | None:
    try:
        return int(path.read_text(encoding="ascii")) / 1000
    except (OSError, ValueError):
        return None


def own(*more: int | None) -> list[int]:
    """The process ids of this agent: itself, and what else there is."""
    return [os.getpid(), *(pid for pid in more if pid is not None)]
