"""A small agent that a release of the tests is: it proves itself, works on its update, is healthy or not, and ends.

All that concerns releases is the real thing: launcher, slots, record, steps, trial. What is small is what surrounds it:
no broker, no model, a hub that is a folder.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from console.errors import EdgequiltError, TransportError
from edge.notice import Notice
from edge.slots.job import Line, run
from edge.slots.record import Record
from edge.slots.slots import Slots
from edge.slots.steps import Job
from edge.slots.trial import Limits
from edge.slots.updates import Updates
from tests.edge.slots.strike import StateFuse
from wire.envelope import Trust
from wire.keys import read_public_key

SETTLED = 42  # ends for good: there is nothing to do
SILENCE_S = {"": 1.5}
LIMITS = Limits(steady=0.05, answer=1.0, unconnected=1.0, offline=1.0)
ATTEMPTS = 2


class Shop:
    """A hub that is a folder: what it serves lies there under its path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def bytes(self, path: str, limit_bytes: int) -> bytes:
        """A small file."""
        found = self._folder / path.lstrip("/")
        if not found.is_file():
            raise TransportError("expected an answer of the hub, found none")
        return found.read_bytes()

    def range(self, path: str, file: BinaryIO, offset: int, size: int) -> int:
        """What lacks of a large one."""
        return file.write(self.bytes(path, size)[offset:])


class Around:
    """What surrounds an update here."""

    def __init__(self, told: Path) -> None:
        self.updates: Updates | None = None
        self._told, self._proof = told, False

    def failed(self, order: str, reason: str) -> None:
        """The hub's book is a file."""
        with self._told.open("a") as book:
            book.write(f"{order}: {reason}\n")

    def show(self, **fields: Any) -> None:
        """Nobody looks."""

    def prove(self) -> bool:
        """There is a bundle; it answers in the next turn."""
        self._proof = True
        return True

    def hello(self) -> None:
        """Nobody listens."""

    def idle(self) -> bool:
        """There is no job."""
        return True

    def reach(self, now: float) -> None:
        """Nobody looks."""

    def answer(self, wrong: str) -> None:
        """The bundle's answer."""
        if self._proof and self.updates is not None:
            self._proof = False
            self.updates.proved(wrong)


def main(arguments: list[str], manner: str) -> int:
    """`agent prove` or `agent run`, of a release that is `good`, `broken` (at once) or `sick` (later)."""
    home = Path(os.environ["EDGEQUILT_HOME"])
    if arguments[:2] == ["agent", "prove"]:
        if manner == "broken":
            print("edgequilt: expected a library, found none", file=sys.stderr)
        return 11 if manner == "broken" else 0
    if arguments[:1] == ["update"]:
        return update(home)
    try:
        return agent(home, manner)
    except EdgequiltError as error:
        print(f"edgequilt: {error}", file=sys.stderr)
        return error.exit_code


def agent(home: Path, manner: str) -> int:
    """Turn until there is nothing to do, or another release is to start."""
    around, notice, fuse = Around(home.parent / "told"), Notice(), StateFuse(home.parent / "fault.json")
    notice.ready()
    notice.beat(lambda: True)
    command = [sys.executable, sys.argv[0], "update"]
    record = Record(home / "state")
    attempts = lambda state: ATTEMPTS  # noqa: E731  # in every state
    updates = Updates(
        Slots(home), record, around, home / "agent.toml", time.monotonic, command, LIMITS, SILENCE_S, fuse.at, attempts
    )
    around.updates = updates
    updates.start()
    updates.connected(True)
    updates.heard()
    around.answer("off by 0.5" if manner == "sick" else "")
    try:
        while not updates.leaves:
            notice.beat(lambda: True)
            if updates.look() is None and record.wanted is None:
                return SETTLED
            time.sleep(0.01)
    finally:
        updates.close()
    return 0


def update(home: Path) -> int:
    """The process that does an update, with the fault in it."""
    record, line = Record(home / "state"), Line(sys.stdout)
    line.state = lambda: record.kept.state
    trust = Trust([read_public_key(home / "publisher.pub", "publisher")])
    fuse = StateFuse(home.parent / "fault.json")
    shop = Shop(home.parent / "shop")
    return run(Job(record, Slots(home), trust, shop, home / "agent.toml", line.progress, fuse.at), line)
