"""The local API of an agent that runs: a desk, the thread that has requests answered, and where programs connect."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from console.errors import TransportError
from edge.idle.sense import own
from edge.local.asking import Asking
from edge.local.desk import Desk
from edge.local.server import Server

if TYPE_CHECKING:
    from edge.core import Core

log = logging.getLogger("edgequilt.agent")


class LocalApi:
    """All of it."""

    def __init__(self, core: Core) -> None:
        self.asking = Asking(core)
        self.server = Server(core.setup.config.local, Desk(core, self.asking).answer)
        core.barrier.room = self.asking.make_room
        core.barrier.pids = lambda: own(getattr(core.link, "pid", None), self.asking.link.pid)
        self.asking.start()
        self.server.start()

    def close(self) -> None:
        """Answer no more."""
        self.server.close()
        self.asking.close()


def opened(core: Core) -> LocalApi | None:
    """The local API where the configuration says; None where it says nowhere, or where it cannot be.

    Raises:
        TransportError: it cannot be where agent.toml says; a place that nobody has named is gone without.
    """
    local = core.setup.config.local
    if local.socket is None and local.http is None:
        return None
    try:
        return LocalApi(core)
    except TransportError as error:
        if local.named:
            raise
        log.warning("no local API: %s", error)
        return None
