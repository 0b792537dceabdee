"""What can happen to a hub's storage, instant by instant: the one harness of all tests of faults (tests/fuse.py).

A hub touches its storage at instants that can be counted: just before and just after each transaction and each blob.
A fault strikes at one of them. `every` tells a story again and again, with the fault later each time, until it comes
too late to strike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from sqlalchemy import Connection

from console.errors import StorageError
from hub.serving.service import Service
from hub.store.blobs import Blobs
from hub.store.ledger import Ledger
from tests.fuse import Fuse, Instant, Killed
from tests.hub.world import World

Tell = Callable[[World], None]


def instants(first: int, step: int, backend: str = "sqlite") -> Iterator[int]:
    """Which instants a fault strikes at; over a server, where the same code takes longer, at one of five of these."""
    return count(first, step if backend == "sqlite" else 5 * step)


class FullDisk(Fuse):
    """Nothing can be written from an instant on, for some instants; what was being written is not there."""

    def __init__(self, instants: int, lasts: int = 3) -> None:
        super().__init__(instants)
        self.lasts = lasts

    def strikes(self, when: Instant, what: str) -> bool:
        """While the disk is full, before anything is written."""
        return when == "before" and -self.lasts < self.left <= 0

    def strike(self) -> None:
        """As SQLite and the file system say it."""
        raise StorageError("expected to write, the system said: No space left on device; free some space")


class LostAnswer(Fuse):
    """A transaction is there, but the answer says that it is not: a server or a disk that went away while it wrote."""

    def strikes(self, when: Instant, what: str) -> bool:
        """At the first commit from the instant on."""
        return when == "after" and what == "ledger" and self.left <= 0 and not self.struck

    def strike(self) -> None:
        """As the driver says it."""
        raise StorageError("expected to write, the database said: server closed the connection; see that it runs")


class BurningLedger(Ledger):
    """A ledger with a fault."""

    fuse: Fuse

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """The same transaction, if nothing happens."""
        try:
            self.fuse.burn("before", "ledger")
        except StorageError:
            self.failures += 1
            raise
        with super().transaction() as tx:
            yield tx
        try:
            self.fuse.burn("after", "ledger")
        except StorageError:
            self.failures += 1
            raise


class BurningBlobs(Blobs):
    """Blobs with a fault."""

    fuse: Fuse

    def put(self, data: bytes) -> str:
        """The same, if nothing happens."""
        self.fuse.burn("before", "blobs")
        name = super().put(data)
        self.fuse.burn("after", "blobs")
        return name

    def delete(self, sha256: str) -> int:
        """The same, if nothing happens."""
        self.fuse.burn("before", "blobs")
        size = super().delete(sha256)
        self.fuse.burn("after", "blobs")
        return size


def set_fire(service: Service, fuse: Fuse) -> None:
    """Let every instant of this hub burn the fuse."""
    service.home.ledger.close()
    ledger = BurningLedger(service.home.ledger.database)
    blobs = BurningBlobs(service.home.blobs.folder)
    ledger.fuse = blobs.fuse = fuse
    service.home.ledger, service.home.blobs = ledger, blobs


def survive(world: World, fuse: Fuse | None, tell: Tell) -> int:
    """Live through a story whose steps look what is done already.

    A kill is followed by a new hub on the same folder, an error that reaches whoever asked by another try.

    Returns:
        How often the hub was killed.
    """
    kills = 0
    if fuse is not None:
        set_fire(world.hub, fuse)
    while True:
        try:
            tell(world)
            return kills
        except (Killed, StorageError) as fault:  # noqa: PERF203  # after each fault the story goes on
            if isinstance(fault, Killed):
                kills += 1
                world.hub = world.start_hub()


def every(
    make_world: Callable[[], World], fault: Callable[[int], Fuse], tell: Tell, when: Iterator[int]
) -> Iterator[World]:
    """Worlds that lived through a story with a fault at each of these instants in turn, to its end."""
    for instant in when:
        world, fuse = make_world(), fault(instant)
        survive(world, fuse, tell)
        yield world
        if not fuse.struck:
            return
