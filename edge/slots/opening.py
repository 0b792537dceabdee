"""Updates of an agent that its launcher started: what they need of its core."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import protocol as p
from edge.setup import broker_of
from edge.slots.reach import Reach
from edge.slots.record import Record
from edge.slots.slots import Slots, home_of
from edge.slots.updates import Updates

if TYPE_CHECKING:
    from edge.core import Core


class CoreWays:
    """A core, as updates see it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        broker = broker_of(core.setup.config)
        self._reach = Reach(broker.host, broker.port, self._reached)

    def failed(self, order: str, reason: str) -> None:
        """Tell the hub."""
        self._core.say_failed(order, reason)

    def show(self, **fields: Any) -> None:
        """For status.json."""
        self._core.status.set(**fields)

    def prove(self) -> bool:
        """Have the bundle in use answer; False: there is none."""
        return self._core.prove_own()

    def hello(self) -> None:
        """Say what runs here."""
        self._core.say_hello()

    def idle(self) -> bool:
        """Whether no job would be lost."""
        return self._core.life.phase == p.IDLE or self._core.barrier.waiting is not None

    def reach(self, now: float) -> None:
        """Find out whether somebody answers at the broker's address."""
        self._reach.look(now)

    def _reached(self, yes: bool) -> None:
        core = self._core
        core.call(lambda: core.updates.reached(yes) if core.updates is not None else None)


def opened(core: Core, config: Path) -> Updates | None:
    """The updates of an agent; None where its launcher has not started it, so that nothing can be replaced."""
    home = home_of()
    if home is None:
        return None
    return Updates(Slots(home), Record(core.setup.state), CoreWays(core), config, core.now)
