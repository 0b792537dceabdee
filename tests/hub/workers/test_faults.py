"""A worker, and a hub with workers, killed at every instant at which they touch their storage."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hub.workers.worker import Worker
from tests.faults import BurningBlobs, BurningLedger, instants, set_fire
from tests.fuse import Fuse, Killed
from tests.hub.workers.test_workers import Helpers, over_a_server, phase
from tests.hub.world import World

pytestmark = [pytest.mark.postgresql, pytest.mark.heavy]


def burn(worker: Worker, fuse: Fuse) -> None:
    """Let every instant of this worker burn the fuse."""
    worker.home.ledger.close()
    ledger = BurningLedger(worker.home.ledger.database, reading=True)
    blobs = BurningBlobs(worker.home.blobs.folder)
    ledger.fuse = blobs.fuse = fuse
    worker.home.ledger, worker.home.blobs = ledger, blobs


def once_each(world: World, number: int) -> None:
    """The round is complete, and each update in it once."""
    assert phase(world, number) == "complete"
    rows = [(row["device"], row["kind"], row["lap"]) for row in world.hub.home.ledger.updates(number)]
    assert len(rows) == len(set(rows))
    assert {device for device, kind, _ in rows if kind == "adapter"} == {"barn", "coop", "mill"}
    assert all(not device.outbox for device in world.devices.values())
    assert world.hub.home.ledger.arrivals(10) == []


@over_a_server
def test_a_worker_that_is_killed_anywhere_loses_nothing(make_world: Callable[..., World]) -> None:
    """Before and after each transaction and each blob of a worker: the next one goes on, and the hub counts once."""
    for instant in instants(1, 1, "postgresql"):
        helpers, fuse = Helpers(make_world()), Fuse(instant)
        world = helpers.world
        burn(helpers.start("worker-0"), fuse)
        world.hub.tick()
        number = world.ask("open", kind="train", deadline_s=100_000)["round"]
        for attempt in range(2):
            try:
                helpers.settle(rounds=200)
                break
            except Killed:
                helpers.kill(f"worker-{attempt}")
                helpers.start(f"worker-{attempt + 1}")
        once_each(world, number)
        for name in list(helpers.all):
            helpers.kill(name)
        if not fuse.struck:
            return


@over_a_server
def test_a_hub_that_is_killed_anywhere_counts_what_workers_took_in(make_world: Callable[..., World]) -> None:
    """Before and after each transaction and each blob of the hub: the next one counts what lies in the ledger."""
    for instant in instants(1, 2, "postgresql"):
        helpers, fuse = Helpers(make_world()), Fuse(instant)
        world = helpers.world
        helpers.start("worker-0")
        world.hub.tick()
        number = world.ask("open", kind="train", deadline_s=100_000)["round"]
        set_fire(world.hub, fuse)
        for _ in range(2):
            try:
                helpers.settle(rounds=200)
                break
            except Killed:
                world.hub = world.start_hub()
        once_each(world, number)
        for name in list(helpers.all):
            helpers.kill(name)
        if not fuse.struck:
            return
