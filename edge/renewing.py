"""A bundle's way into use, on the core's side: followed, fetched, proved by the worker, switched to; or given up.

What was proved is used from the next start on: `Core.again` asks for one. So there is one way to begin with a bundle,
and an agent that is killed at any instant begins with a whole one.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.errors import StorageError
from edge import protocol as p
from edge.request import PROVE, Request
from edge.setup import place_of
from wire.bundle import MANIFEST
from wire.files import read_bytes
from wire.manifest import LIMIT_BYTES, parse_manifest
from wire.messages import Assignment

if TYPE_CHECKING:
    from edge.core import Core
    from edge.fetching import Fetcher

log = logging.getLogger("edgequilt.agent")
ORDER = "bundle-"  # and the sequence: the name of an assignment where a job would be named
OWN = "the bundle in use"  # the name of its proof
STEADY_S = 60.0  # that an agent runs with a new bundle before it is kept


class Renewing:
    """The bundle that is on its way, if one is."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._fetcher: Fetcher | None = None
        self._ready: Assignment | None = None  # whole, waits to be proved
        self.proving = ""  # the name of the proof that the worker makes
        self._own = False  # the bundle in use waits to be proved
        self._answered, self._began = False, 0.0

    def start(self) -> None:
        """Go on with what was on its way when the program ended, and delete what nobody needs."""
        self._began = self._core.now()
        if self._core.setup.shelf.on_trial:
            self.prove_own()
        self._begin()

    def connected(self) -> None:
        """The hub hears of a bundle that was gone back from."""
        shelf = self._core.setup.shelf
        if shelf.kept.untold:
            self._core.say_failed(f"{ORDER}{shelf.kept.failed_sequence}", shelf.kept.failed)
            with suppress(StorageError):  # then it is said again
                shelf.told()

    def came(self, message: Assignment) -> None:
        """The hub names a bundle."""
        if self._core.setup.shelf.follow(message):
            self._begin()

    def take(self, what: str, fields: dict[str, Any]) -> None:
        """What the fetching thread tells."""
        order = self._core.setup.shelf.wanted(self._core.setup.bundle)
        if order is None or fields["sequence"] != order.sequence:
            return
        if what == "fetched":
            self._close()
            self._ready = order
            self.look()
        elif what == "progress":
            self._core.status.set(bundle_coming={"bundle": order.bundle, "bytes": fields["done"], "of": fields["of"]})
        elif what == "delayed":
            self._core.say_failed(f"{ORDER}{order.sequence}", f"not yet: {fields['reason']}")
        else:
            self._give_up(order, fields["reason"])

    def prove_own(self) -> bool:
        """Have the bundle in use proved, for a release on trial; False: there is none."""
        self._own = bool(self._core.setup.bundle)
        return self._own

    def look(self) -> None:
        """Have a whole bundle proved, as soon as the worker has nothing to do."""
        core, order = self._core, self._ready
        if self._answered and core.setup.shelf.on_trial and core.now() - self._began >= STEADY_S:
            with suppress(StorageError):  # then it is kept at the next look
                core.setup.shelf.keep()
        nothing = order is None and not self._own
        if nothing or self.proving or (core.life.phase != p.IDLE and core.barrier.waiting is None):
            return  # a job that waits for the board to be idle waits a little longer
        if self._own or order is None:
            self._own, self.proving = False, OWN
            core.link.submit(Request(OWN, PROVE, 0, (), (), core.setup.place, ""))
            return
        self._ready, self.proving = None, f"{ORDER}{order.sequence}"
        folder = core.setup.shelf.folder(order.bundle)
        config = core.setup.config
        plan = parse_manifest(read_bytes(folder / MANIFEST, "a manifest", LIMIT_BYTES)).plan
        core.link.budget_bytes = config.budget_bytes or plan.budget_bytes or None
        place, settings = place_of(config, folder, order.bundle), {"data": config.take_part}
        core.link.submit(Request(self.proving, PROVE, 0, (), (), place, "", settings))

    def answer(self, kind: str, fields: dict[str, Any]) -> None:
        """What the worker says of the proof."""
        if kind == "progress":
            return
        self.proving = ""
        if fields.get("id") == OWN:
            self._own_answer("" if kind == "result" else str(fields.get("reason")))
            return
        order = self._core.setup.shelf.wanted(self._core.setup.bundle)
        if order is None or fields.get("id") != f"{ORDER}{order.sequence}":
            return
        if kind != "result":
            self._core.link.budget_bytes = self._core.setup.budget_bytes
            self._give_up(order, str(fields.get("reason")))
            return
        log.info("bundle %s is here and computes what it should; the agent begins anew with it", order.bundle[:12])
        self._core.setup.shelf.switch(order.bundle)
        self._core.again = True

    def _own_answer(self, wrong: str) -> None:
        core, shelf = self._core, self._core.setup.shelf
        self._answered = not wrong
        if core.updates is not None:
            core.updates.proved(wrong)
        if wrong and shelf.on_trial:
            shelf.go_back(f"it was proved, but does not answer in use: {wrong}")
            core.again = True
            return
        self.look()

    def close(self) -> None:
        """End the thread; what came is kept."""
        self._close()

    def _begin(self) -> None:
        core = self._core
        self._close()
        self._ready = None
        order = core.setup.shelf.wanted(core.setup.bundle)
        core.setup.shelf.collect()  # what came of an assignment that another one has replaced
        core.status.set(bundle_coming=None)
        if order is None:
            return
        from edge.fetching import Fetcher, hub_of  # a core that has nothing to fetch does not pay for it
        from edge.install import Goal

        log.info("bundle %s is to be fetched", order.bundle[:12])
        present = [Path(core.setup.place.bundle)] if core.setup.bundle else []
        shelf = core.setup.shelf
        present += [shelf.folder(d) for d in (shelf.kept.current, shelf.kept.former) if d]
        goal = Goal(order, shelf.folder(order.bundle), core.setup.publishers, present)
        self._fetcher = Fetcher(goal, hub_of(core.setup.config, order), core.from_thread("bundle"))

    def _give_up(self, order: Assignment, reason: str) -> None:
        self._close()
        log.warning("bundle %s cannot be taken: %s", order.bundle[:12], reason)
        self._core.setup.shelf.give_up(order, reason)
        self._core.status.set(bundle_coming=None)
        self._core.say_failed(f"{ORDER}{order.sequence}", reason)
        self._core.setup.shelf.collect()

    def _close(self) -> None:
        if self._fetcher is not None:
            self._fetcher.close()
            self._fetcher = None
