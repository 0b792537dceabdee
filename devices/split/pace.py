"""Whether a front and its tail keep the pace of their plan, in words that say what to do where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LINK_S = "link_seconds_per_step"  # of what a board says of its training
TIMES = 2.0  # a link that takes so much longer than planned is told of
LEAST = 0.1  # of a step; whoever waits less for the link would gain little by another one
NS = 1e9
REMEDY = (
    "open rounds with --split-mode local, which meets the tail once, where the model has a head, or with --coding int8 "
    "where it is not yet, or plan again with the link_bytes_per_s that the board has, for another split"
)


@dataclass(frozen=True)
class Pace:
    """Of a front, in seconds a step.

    Attributes:
        step_s: all of it, waiting included.
        link_s: what crosses.
    """

    step_s: float
    link_s: float

    def slow(self, planned: Pace | None) -> str:
        """What the link does to the board, and what to do; empty where it keeps the plan.

        Args:
            planned: None where nobody planned: then a link is slow that a step waits for longer than for all else.

        >>> Pace(3.0, 2.5).slow(Pace(1.0, 0.5)).partition(":")[0]
        'its link takes 2.5 s of a step, planned were 500 ms'
        >>> Pace(3.0, 0.1).slow(Pace(1.0, 0.04)), Pace(2.0, 0.9).slow(None)
        ('', '')
        """
        if self.link_s < LEAST * self.step_s or self.link_s <= 0:
            return ""
        took = f"its link takes {seconds(self.link_s)} of a step"
        if planned is None:
            return f"{took} of {seconds(self.step_s)}: {REMEDY}" if 2 * self.link_s > self.step_s else ""
        late = self.link_s > TIMES * planned.link_s
        return f"{took}, planned were {seconds(planned.link_s)}: {REMEDY}" if late else ""


def planned_of(plan: Mapping[str, Any]) -> Pace | None:
    """What the plan of a bundle says of its steps, from the fields of a plan of a fleet; None where it says nothing.

    >>> planned_of({"step_ns": 2_000_000_000, "link_ns": 500_000_000}), planned_of({"step_ns": "long"})
    (Pace(step_s=2.0, link_s=0.5), None)
    """
    step, link = plan.get("step_ns"), plan.get("link_ns")
    if type(step) is not int or type(link) is not int or not 0 < link <= step:
        return None
    return Pace(step / NS, link / NS)


def late(step_s: float, steps: int, deadline_s: float) -> str:
    """Why a front was not done by the deadline of a round, as far as its plan says, which has so many seconds a step.

    >>> late(2.0, 10, 15.0)
    'its plan has 20 s for 10 steps, the round had 15 s: give more --deadline, or fewer --steps'
    """
    due = f"its plan has {seconds(steps * step_s)} for {steps} steps, the round had {seconds(deadline_s)}"
    if steps * step_s > deadline_s:
        return f"{due}: give more --deadline, or fewer --steps"
    return f"{due}: the link or the tail is slower than planned: {REMEDY}"


def seconds(time_s: float) -> str:
    """A time as people read it.

    >>> seconds(0.0123), seconds(2.5), seconds(1234.5)
    ('12.3 ms', '2.5 s', '1234 s')
    """
    if time_s < 1:
        return f"{1000 * time_s:.3g} ms"
    return f"{time_s:.3g} s" if time_s < 1000 else f"{time_s:.0f} s"
