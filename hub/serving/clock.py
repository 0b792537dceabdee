"""The hub's clock, and what becomes of deadlines when it was not running or when the system's clock was set.

Seconds since 1970, as the system's clock had them when the process began, and from there on by a clock that nobody
sets and that also counts while the machine sleeps. So in one process neither a jump ahead nor one back changes when a
round ends.

Between two processes only the system's clock goes on, and whether it was set or the hub was down cannot be known:

* set back, a round would wait longer than it was opened for: after a start it waits its full length at most;
* set ahead, or down for long, its deadline is over: after a start it still waits `GRACE_S`, in which boards that were
  done say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable

GRACE_S = 60.0


def steady_clock(
    wall: Callable[[], float] = time.time, steady: Callable[[], float] | None = None
) -> Callable[[], float]:
    """A clock that begins with the system's and cannot be set."""
    count = steady or _boottime
    began_s = wall() - count()
    return lambda: began_s + count()


def after_start(deadline_at_s: float, length_s: float, now_s: float) -> float:
    """The deadline of what a process that starts now finds open.

    Args:
        deadline_at_s: as it was kept.
        length_s: how long it was to wait in all, in seconds.
        now_s: the present.

    >>> after_start(1000.0, 60.0, 990.0)  # ten seconds are left
    1000.0
    >>> after_start(1000.0, 60.0, 0.0)  # the clock was set back
    60.0
    >>> after_start(1000.0, 3600.0, 9000.0)  # over
    9060.0
    """
    if deadline_at_s <= now_s:
        return now_s + min(GRACE_S, length_s)
    return min(deadline_at_s, now_s + length_s)


def _boottime() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
