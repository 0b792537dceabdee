"""What a broker does not take of the hub (MQTT 5 says it): counted by type of message, and logged once for each."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from wire.transport import Fate

log = logging.getLogger("edgequilt.hub")


@dataclass
class Denied:
    """How often, by type."""

    counts: dict[str, int] = field(default_factory=dict)

    def learn(self, fate: Fate) -> None:
        """A message reached nobody."""
        kind = fate.topic.rpartition("/")[2]
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] == 1:
            log.warning("the broker takes no %s from the hub: %s; look at its access list", kind, fate.reason)
