"""A bundle's way into use, on the core's side: followed, fetched, proved by the worker, switched to; or given up.

What was proved is used from the next start on: `Core.again` asks for one. So there is one way to begin with a bundle,
and an agent that is killed at any instant begins with a whole one.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from console.errors import EdgequiltError, StorageError
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
PROVE_S = 900.0  # for a worker to open a bundle, to run its golden input and to read the board's data
SILENT_S = 900.0  # of the thread that fetches: each wait for the hub ends before, each block is a sign of life


class Renewing:
    """The bundle that is on its way, if one is."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._fetcher: Fetcher | None = None
        self._ready: Assignment | None = None  # whole, waits to be proved
        self.proving = ""  # the name of the proof that the worker makes
        self._proving_since = 0.0
        self._own = False  # the bundle in use waits to be proved
        self._answered, self._began = False, 0.0
        self._came = False  # some of what is on its way, since this start

    def start(self) -> None:
        """Go on with what was on its way when the program ended, and delete what nobody needs."""
        self._began = self._core.now()
        if self._core.setup.shelf.on_trial:
            self.prove_own()
        self._begin()

    def connected(self) -> None:
        """The hub hears of a bundle that was gone back from, or given up."""
        kept = self._core.setup.shelf.kept
        if kept.untold:
            self._tell(kept.failed_sequence, kept.failed)

    def came(self, message: Assignment) -> None:
        """The hub names a bundle; what it says again is gone on with where a full disk, say, had ended it."""
        shelf, rests = self._core.setup.shelf, self._fetcher is None and self._ready is None and not self.proving
        if shelf.follow(message) or (rests and not self._core.again and shelf.wanted(self._core.setup.bundle)):
            self._begin()

    def take(self, what: str, fields: dict[str, Any]) -> None:
        """What the fetching thread tells."""
        order = self._core.setup.shelf.wanted(self._core.setup.bundle)
        if order is None or fields["sequence"] != order.sequence:
            return
        if what == "fetched":
            self.close()
            self._ready = order
            self.look()
        elif what == "progress":
            self._progress()
            self._core.status.set(bundle_coming={"bundle": order.bundle, "bytes": fields["done"], "of": fields["of"]})
        elif what == "delayed":
            self._not_yet(order, fields["reason"])
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
        self._hung()
        nothing = order is None and not self._own
        if nothing or self.proving or (core.life.phase != p.IDLE and core.barrier.waiting is None):
            return  # a job that waits for the board to be idle waits a little longer
        if self._own or order is None:
            self._own, self.proving, self._proving_since = False, OWN, core.now()
            core.link.submit(Request(OWN, PROVE, 0, (), (), core.setup.place, ""))
            return
        self._ready = None
        try:
            self._prove(order)
        except StorageError as error:
            self._later(order, str(error))
        except EdgequiltError as error:  # its manifest was whole a moment ago: a disk that cannot be relied upon
            self.proving = ""
            self._give_up(order, str(error))

    def _prove(self, order: Assignment) -> None:
        core, config = self._core, self._core.setup.config
        folder = core.setup.shelf.folder(order.bundle)
        plan = parse_manifest(read_bytes(folder / MANIFEST, "a manifest", LIMIT_BYTES)).plan
        if wrong := self._counted("proofs"):
            self._give_up(order, wrong)
            return
        self.proving, self._proving_since = f"{ORDER}{order.sequence}", core.now()
        core.link.budget_bytes = config.budget_bytes or plan.budget_bytes or None
        place, settings = place_of(config, folder, order.bundle), {"data": config.take_part}
        core.link.submit(Request(self.proving, PROVE, 0, (), (), place, "", settings))

    def _counted(self, what: Literal["fetches", "proofs"]) -> str:
        try:
            return self._core.setup.shelf.attempt(what)
        except StorageError:  # a full disk counts nothing, and does not keep a board from trying
            return ""

    def _progress(self) -> None:
        if not self._came:
            self._came = True
            self.calm()

    def _hung(self) -> None:
        """What says nothing for so long says nothing any more: a worker is killed, a thread only with its program."""
        core, now = self._core, self._core.now()
        if self.proving and now - self._proving_since > PROVE_S:
            core.link.stop()
            reason = f"expected its proof within {PROVE_S:.0f} s, it did not end"
            self._proving_since = now
            core.from_thread("worker")("error", {"id": self.proving, "reason": reason})
        if self._fetcher is not None and self._fetcher.silent_s() > SILENT_S:
            log.error("fetching a bundle says nothing for %.0f s; the agent begins anew", SILENT_S)
            self._fetcher, core.again = None, True

    def answer(self, kind: str, fields: dict[str, Any]) -> None:
        """What the worker says of the proof."""
        if kind == "progress" or fields.get("id") != self.proving:
            return
        self.proving = ""
        if fields.get("id") == OWN:
            self._own_answer("" if kind == "result" else str(fields.get("reason")))
            return
        order = self._core.setup.shelf.wanted(self._core.setup.bundle)
        if order is None or fields.get("id") != f"{ORDER}{order.sequence}":
            return
        if kind != "result":
            self._give_up(order, str(fields.get("reason")))
            return
        log.info("bundle %s is here and computes what it should; the agent begins anew with it", order.bundle[:12])
        try:
            self._core.setup.shelf.switch(order.bundle)
        except StorageError as error:
            self._later(order, str(error))
            return
        self._core.again = True

    def _own_answer(self, wrong: str) -> None:
        core, shelf = self._core, self._core.setup.shelf
        self._answered = not wrong
        if core.updates is not None:
            core.updates.proved(wrong)
        if wrong and shelf.on_trial:
            with suppress(StorageError):  # then its starts are counted, as far as they can be
                shelf.go_back(f"it was proved, but does not answer in use: {wrong}")
            core.again = True
            return
        self.look()

    def calm(self) -> None:
        """Something came, or the agent ends because somebody wants it to: what was counted is no sign of trouble."""
        with suppress(StorageError):  # then a stop counts as an accident
            self._core.setup.shelf.calm()

    def _begin(self) -> None:
        core = self._core
        self.close()
        self._ready, self._came = None, False
        order = core.setup.shelf.wanted(core.setup.bundle)
        core.setup.shelf.collect()  # what came of an assignment that another one has replaced
        core.status.set(bundle_coming=None)
        if order is None:
            return
        if wrong := self._counted("fetches"):
            self._give_up(order, wrong)
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
        self.close()
        log.warning("bundle %s cannot be taken: %s", order.bundle[:12], reason)
        core = self._core
        core.link.budget_bytes = core.setup.budget_bytes
        with suppress(StorageError):  # then it is tried again at the next start
            core.setup.shelf.give_up(order, reason)
        core.status.set(bundle_coming=None)
        if core.life.connected:
            self._tell(order.sequence, reason)
        core.setup.shelf.collect()

    def _later(self, order: Assignment, reason: str) -> None:
        """A full disk, say, is in the way of what is here; it is tried again when the hub names it again."""
        self.proving = ""
        self.calm()
        self._not_yet(order, reason)

    def _not_yet(self, order: Assignment, reason: str) -> None:
        self._core.say_failed(f"{ORDER}{order.sequence}", f"not yet: {reason}")

    def _tell(self, sequence: int, reason: str) -> None:
        shelf = self._core.setup.shelf
        self._core.say_failed(f"{ORDER}{sequence}", reason)
        if shelf.kept.untold:
            with suppress(StorageError):  # then it is said again
                shelf.told()

    def close(self) -> None:
        """End the thread; what came is kept."""
        if self._fetcher is not None:
            self._fetcher.close()
            self._fetcher = None
