"""What the hub says that is no part of the protocol: bundles, releases of the agent, its keys, answers to hellos."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from console.errors import EdgequiltError
from edge import events as ev

if TYPE_CHECKING:
    from edge.core import Core
    from edge.renewing import Renewing

log = logging.getLogger("edgequilt.agent")


class Asides:
    """Takes what comes beside jobs and versions, for the core.

    Args:
        core: whose it is.
        renewing: takes bundles.
    """

    def __init__(self, core: Core, renewing: Renewing) -> None:
        self._core = core
        self._ways: dict[type, Callable[[Any], None]] = {
            ev.BundleNamed: lambda event: renewing.came(event.message),
            ev.ProgramNamed: self._program,
            ev.KeysCame: self._keys,
            ev.StandingCame: lambda event: core.news.came(event.message),
        }

    def take(self, event: object) -> bool:
        """Whether it was one of these; one that could not be taken is told, and the hub says it again."""
        way = self._ways.get(type(event))
        if way is None:
            return False
        try:
            way(event)
        except (EdgequiltError, OSError) as error:  # a full disk, say
            log.error("%s", error)  # noqa: TRY400  # one line, no traceback
        return True

    def look(self, now: float) -> None:
        """Whether the hub's news comes through; asks for an answer now and then."""
        core = self._core
        seen, shelf = core.store.released.seen, core.setup.shelf.kept.seen
        has = {
            "release": -1 if seen is None else seen.sequence,
            "bundle": -1 if shelf is None else shelf.sequence,
            **({} if core.updates is None or core.updates.seen is None else {"program": core.updates.seen}),
        }
        core.news.compare(has, "" if seen is None else seen.digest, now)
        if core.life.connected and (core.news.look(now) or core.news.due(now)):
            core.say_hello()

    def _program(self, event: ev.ProgramNamed) -> None:
        """A board that flashing or installing has not prepared has no releases: whoever keeps it updates its agent."""
        if self._core.updates is None:
            log.warning("the hub names a release of the agent, but no launcher has started this one: it stays")
            return
        self._core.updates.came(event.message)

    def _keys(self, event: ev.KeysCame) -> None:
        """A hub with another key is told that this board follows, and says again what was not believed."""
        hub = self._core.setup.hub
        before = hub.believed
        try:
            hub.follow(event.message.links)
        finally:
            if hub.believed != before:
                self._core.say_hello()
