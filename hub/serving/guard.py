"""Between what comes from outside and what goes on: whatever a message or a tick causes, the hub stays."""

from __future__ import annotations

import logging
from collections.abc import Callable

from console.errors import EdgequiltError
from hub.store.registry import Home

log = logging.getLogger("edgequilt.hub")
REASONS_KEPT = 20


class Guard:
    """Calls things, all reads of one in one view of the ledger; what does not hold is noted and changes nothing.

    Attributes:
        ignored: how often something did not hold.
        reasons: why last, by place: whoever floods us shall not flood the log.
    """

    def __init__(self, home: Home) -> None:
        self.home, self.ignored, self.reasons = home, 0, dict[str, str]()

    def __call__(self, call: Callable[[], None], where: str) -> None:
        """Call it; `where` says when and for whom."""
        try:
            with self.home.ledger.reading_together():
                call()
        except EdgequiltError as error:
            self.ignored += 1
            self.reasons.pop(where, None)
            self.reasons[where] = str(error)
            if len(self.reasons) > REASONS_KEPT:
                del self.reasons[next(iter(self.reasons))]
            # the first is said, so that one that nobody foresaw is seen; a flood is not
            log.log(logging.WARNING if self.ignored == 1 else logging.INFO, "%s: %s", where, error)
        except Exception:
            log.exception("%s: something that should not happen", where)
