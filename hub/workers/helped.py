"""The hub's side of its workers: while there are any it leaves to them what they take, and counts what they took in."""

from __future__ import annotations

import logging
from collections.abc import Callable

from hub.store.ledger import Row
from hub.store.registry import Home
from wire.topics import hub_subscriptions, light_subscriptions
from wire.transport import Transport

log = logging.getLogger("edgequilt.hub")
LOOK_S = 2.0
GONE_S = 15.0  # a worker that said nothing for so long is gone
AT_ONCE = 200
BROKER = "broker"  # of `meta`: where workers find it


class Helped:
    """Workers of a hub; over a ledger that they cannot share there are none."""

    def __init__(self, home: Home, transport: Transport, clock: Callable[[], float]) -> None:
        self.home, self.transport, self.clock = home, transport, clock
        self.possible = home.ledger.database.path is None
        self.present: list[Row] = []
        self._looked_at_s = float("-inf")

    def look(self) -> list[Row]:
        """See who is there, and what came."""
        if not self.possible:
            return []
        if self.clock() - self._looked_at_s >= LOOK_S:
            self._looked_at_s = self.clock()
            self._look()
        return self.home.ledger.arrivals(AT_ONCE)

    def _look(self) -> None:
        before = bool(self.present)
        self.present = [row for row in self.home.ledger.workers() if row["age_s"] < GONE_S]
        fleet = self.home.config.fleet
        all_of_it, light = hub_subscriptions(fleet, "+"), light_subscriptions(fleet)
        if self.present and not before:
            log.info("workers are there: they take updates in")
            self._swap(light, all_of_it)
        elif before and not self.present:
            log.warning("no worker is there any more: the hub takes updates in by itself")
            self._swap(all_of_it, light)

    def _swap(self, wanted: list[str], other: list[str]) -> None:
        """What is heard twice for a moment does no harm; what is not heard would have to be sent again."""
        for pattern in wanted:
            self.transport.subscribe(pattern)
        for pattern in other:
            self.transport.unsubscribe(pattern)
