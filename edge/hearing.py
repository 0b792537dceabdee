"""Whether the hub hears this board: what its broker says of that (MQTT 5), and what a missing answer says (3.1.1).

Under 3.1.1 a broker takes what it denies without a word, so only the answer that does not come tells.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from wire.transport import Fate

log = logging.getLogger("edgequilt.agent")
PATIENCE = 3  # times an update may be sent without an answer before that is strange
OFTEN, WITHIN_S = 5, 600.0  # connections lost in so short a time
TWINS = 2  # times that our place is taken: once it may have been somebody's trial


@dataclass
class Hearing:
    """Counts what was denied, by type of message, and what went unanswered, by update."""

    denied: dict[str, int] = field(default_factory=dict)
    reason: str = ""  # of the last denial, in the broker's words
    unheard: bool = False  # the broker says that nobody listens
    replaced: int = 0  # times that another client took our name
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=OFTEN))  # when connections were lost, the latest
    unanswered: dict[str, list[float]] = field(default_factory=dict)  # how often, and since when

    def matters(self, fate: Fate) -> bool:
        """Whether there is anything in it to learn; on any thread."""
        return fate.outcome != "taken" or self.unheard

    def learn(self, fate: Fate) -> bool:
        """Take what the broker says of a message; returns whether that is news."""
        if fate.outcome == "replaced":
            self.replaced += 1
            if self.replaced == 1:
                log.warning("another agent connected under our name and took our place: are there two of them?")
            return True
        kind = fate.topic.rpartition("/")[2]
        if fate.outcome == "denied":
            self.denied[kind] = self.denied.get(kind, 0) + 1
            self.reason = fate.reason
            if self.denied[kind] == 1:
                log.warning("the broker takes no %s from this device: %s; look at its access list", kind, fate.reason)
            return True
        before, self.unheard = self.unheard, fate.outcome == "unheard"
        if self.unheard and not before:
            log.warning("the broker takes messages, but no hub listens there; is it running, and is the fleet right?")
        return before != self.unheard

    def lost(self, now_s: float) -> None:
        """A connection that stood is gone."""
        self.losses.append(now_s)

    def _comes_and_goes(self, now_s: float) -> bool:
        return len(self.losses) == OFTEN and now_s - self.losses[0] < WITHIN_S

    def said(self, update: str, now_s: float) -> None:
        """An update went out."""
        count = self.unanswered.setdefault(update, [0, now_s])
        count[0] += 1
        if count[0] == PATIENCE:
            log.warning("update %s: %s", update[:12], _silence(count, now_s))

    def answered(self, update: str) -> None:
        """The hub answered it."""
        self.unanswered.pop(update, None)

    def record(self, now_s: float) -> dict[str, Any]:
        """For status.json; `trouble` is a sentence, None while there is no reason for one."""
        worst = max(self.unanswered.values(), default=[0, now_s])
        trouble = None
        if self.replaced >= TWINS:
            trouble = (
                f"another agent took our place at the broker {self.replaced} times: two boards have one name; end one, "
                f"or claim another name for it"
            )
        elif self._comes_and_goes(now_s):
            trouble = (
                f"the connection was lost {OFTEN} times within {WITHIN_S / 60:.0f} minutes: the network is weak, or "
                f"another board has this one's name"
            )
        elif self.denied:
            kinds = ", ".join(sorted(self.denied))
            trouble = f"the broker denies {kinds} ({self.reason}): look at its access list, and whether it is enrolled"
        elif self.unheard:
            trouble = "the broker takes messages, but no hub listens there: is it running, and is the fleet right?"
        elif worst[0] >= PATIENCE:
            trouble = _silence(worst, now_s)
        return {
            "denied": dict(self.denied),
            "hub_listens": not self.unheard,
            "replaced": self.replaced,
            "unsteady": self._comes_and_goes(now_s),
            "trouble": trouble,
        }


def _silence(count: list[float], now_s: float) -> str:
    return (
        f"sent {count[0]:.0f} times in {now_s - count[1]:.0f} s without an answer of the hub: does it run, is "
        f"this device enrolled, and is the broker's access list right?"
    )
