"""The core's barrier: a job of the model waits in front of it, and is paused behind it, as `decide` says."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edge.idle import sense
from edge.idle.decide import Go, Readings, Wait, decide
from edge.idle.settings import ALWAYS, Idle
from edge.surroundings import surroundings

if TYPE_CHECKING:
    from edge.link import Link
    from edge.request import Request

log = logging.getLogger("edgequilt.agent")
EVERY_S, LONG_AGO_S = 5.0, 20.0
HELD = "the board is busy"  # why the worker is paused
HEAVY = ("train", "statistics", "evaluate", "fix")  # jobs that put all rows through the model

Sense = Callable[[list[int]], Readings]


class Senses:
    """What there is to sense now; it remembers the ticks of the last time, since a load is a difference."""

    def __init__(self) -> None:
        self._before: sense.Ticks | None = None
        self._before_at = 0.0

    def __call__(self, pids: list[int]) -> Readings:
        """Look; `pids` are the agent's own processes, whose load does not count."""
        recent = time.monotonic() - self._before_at < LONG_AGO_S  # an older load is that of another time
        now, before = sense.ticks(pids), self._before if recent else None
        busy = sense.others(before, now) if now is not None and before is not None else None
        self._before, self._before_at = now, time.monotonic()
        at = time.localtime()
        unknown = now is None  # a kernel that does not say counts as one with nothing to do
        return Readings(60 * at.tm_hour + at.tm_min, 0.0 if unknown else busy, sense.hottest(), surroundings().power)


class Barrier:
    """One job at a time.

    Args:
        settings: what training waits for; None: nothing but requests and files that are being written.
        link: the worker.
        clock: seconds.
        readings: what is sensed of the board.
    """

    def __init__(
        self, settings: Idle | None, link: Link, clock: Callable[[], float], readings: Sense | None = None
    ) -> None:
        self.settings, self._link, self._clock = settings or ALWAYS, link, clock
        self._sense: Sense = readings or (Senses() if settings is not None else _nothing)
        self._at, self._found = -1e9, Readings(0)
        self.decision: Go | Wait = Go()
        self.waiting: Request | None = None  # in front of it
        self.running: Request | None = None  # behind it
        self.asked_at = -1e9  # the last request to the local API, on the same clock; set by its thread
        self.settled: Callable[[], bool] = lambda: True
        self.pids: Callable[[], list[int]] = lambda: sense.own(getattr(link, "pid", None))
        self.free: Callable[[], bool] = lambda: True  # whether the worker could take a job
        self.begins: Callable[[Request], None] = lambda request: None  # told of a job that the worker is about to get
        self.stops: Callable[[], None] = lambda: None  # told that the one it had begins again later
        self.room: Callable[[], bool] = lambda: True  # and whether there is memory for it; if not, some is made

    @property
    def reason(self) -> str:
        """Why training waits; empty: it does not, or there is nothing to train."""
        held = self.waiting is not None or self.running is not None
        return self.decision.reason if held and isinstance(self.decision, Wait) else ""

    @property
    def told(self) -> str:
        """What the hub is told of it: the same, but for what is over in seconds."""
        return "" if isinstance(self.decision, Wait) and self.decision.brief else self.reason

    def want(self, request: Request) -> None:
        """A job is ready to begin."""
        if request.kind not in HEAVY:
            self.begins(request)
            self._link.submit(request)
            return
        self.waiting = request
        self.look()

    def drop(self) -> None:
        """The job is over, or nobody wants it any more."""
        self.waiting = self.running = None
        self._link.release(HELD)

    def put_back(self) -> bool:
        """The worker's memory is needed: the job begins again later. Returns whether there was one."""
        if self.running is None:
            return False
        self._link.stop()
        self.stops()
        self._link.release(HELD)
        self.waiting, self.running = self.running, None
        return True

    def look(self) -> float | None:
        """Decide, and do it; returns when to look again, in seconds."""
        if self.waiting is None and self.running is None:
            return None
        now = self._clock()
        if now - self._at >= EVERY_S:
            self._at, self._found = now, self._sense(self.pids())
        before = self.decision
        self.decision = decide(self._readings(now), self.settings)
        if isinstance(self.decision, Wait) and not self.decision.brief and not isinstance(before, Wait):
            log.info("training waits: %s", self.decision.reason)
        if self.running is not None:
            self._pause(isinstance(self.decision, Wait))
        elif self.waiting is not None and isinstance(self.decision, Go) and self.free() and self.room():
            self.running, self.waiting = self.waiting, None
            self.begins(self.running)
            self._link.submit(self.running)
        return EVERY_S if self.settings is not ALWAYS else (1.0 if self.waiting is not None else None)

    def record(self) -> dict[str, Any]:
        """For status.json."""
        state = "waits" if self.waiting is not None else "paused" if self.reason else "goes" if self.running else "none"
        return {"state": state, "reason": self.reason, "quiet_hours": self.settings.quiet_hours}

    def _readings(self, now: float) -> Readings:
        return replace(
            self._found,
            quiet_s=now - self.asked_at,
            settled=self.settled(),
            begun=self.running is not None,
            waits=isinstance(self.decision, Wait),
        )

    def _pause(self, paused: bool) -> None:
        if paused:
            self._link.hold(HELD)
        else:
            self._link.release(HELD)


def _nothing(pids: list[int]) -> Readings:
    """What training waits for does not depend on the board."""
    return Readings(0)
