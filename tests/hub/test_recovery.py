"""The hub killed at every instant at which it touches its disk: nothing receipted is lost, nothing counts twice."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from tests.faults import FullDisk, LostAnswer, every, instants, set_fire, survive
from tests.fuse import Fuse, Killed
from tests.hub.oracle import check_versions
from tests.hub.serving.test_service import counted_once
from tests.hub.world import RANKS, World

MakeWorld = Callable[..., World]
STORY = ("statistics", "train", "statistics")


def tell(world: World, fuse: Fuse | None) -> int:
    """Live through the story; a kill is followed by a new hub on the same folder. Returns the number of kills."""
    return survive(world, fuse, story)


def story(world: World) -> None:
    """Three rounds, each opened unless it is in the ledger."""
    for number, kind in enumerate(STORY, start=1):
        if world.hub.home.ledger.last_round() < number:
            world.ask("open", kind=kind, devices=sorted(RANKS))
        world.settle()


def digests(world: World) -> list[str]:
    """The names of all versions; a name is the digest of all that a version says."""
    return [row["digest"] for row in world.hub.home.ledger.versions()]


@pytest.mark.parametrize(
    ("first", "step"), [(1, 13), pytest.param(1, 1, marks=pytest.mark.heavy)], ids=["some instants", "end to end"]
)
def test_a_kill_at_any_instant_changes_nothing(make_world: MakeWorld, backend: str, first: int, step: int) -> None:
    """Killed before and after each of its writes in turn, a hub ends with the versions of one that never was."""
    calm = make_world()
    assert tell(calm, None) == 0

    for instant in instants(first, step, backend):
        world = make_world()
        kills = tell(world, Fuse(instant))
        assert digests(world) == digests(calm), f"after a kill at instant {instant}"
        assert [r.phase for r in world.hub.home.ledger.rounds()] == ["complete"] * len(STORY)
        counted_once(world)
        if kills == 0:
            break
    assert instant > 60  # so many writes there are in the story


@pytest.mark.parametrize(
    ("first", "step"), [(3, 31), pytest.param(1, 1, marks=pytest.mark.heavy)], ids=["some instants", "end to end"]
)
@pytest.mark.parametrize("mode", [{"mode": "buffered", "buffer": 2, "laps": 4}, {"laps": 2}], ids=["buffered", "laps"])
def test_a_kill_in_a_round_of_several_versions(
    make_world: MakeWorld, backend: str, first: int, step: int, mode: dict[str, Any]
) -> None:
    """Killed at each of its writes, a hub makes as many versions of exactly what it receipted, each update in one."""
    for instant in instants(first, step, backend):
        world, kills = make_world(), 0
        set_fire(world.hub, Fuse(instant))
        while True:
            try:
                if world.hub.home.ledger.last_round() == 0:
                    world.ask("open", kind="train", devices=sorted(RANKS), **mode)
                world.settle()
                break
            except Killed:
                kills += 1
                world.hub = world.start_hub()
        world.settle(2)
        found = world.show(1)
        assert (found["state"], found["lap"]) == ("complete", mode["laps"]), f"after a kill at instant {instant}"
        check_versions(world, 1)
        counted_once(world)
        rows = [row["digest"] for row in world.hub.home.ledger.updates(1)]
        answers = [r for d in world.devices.values() for r in d.receipts]
        assert {r.update for r in answers if r.status != "refused"} == set(rows)
        if kills == 0:
            break
    assert instant > 30  # so many writes there are


def test_kills_on_a_bad_network(make_world: MakeWorld) -> None:
    """Kills together with lost, repeated and reordered messages, too, end with the same versions."""
    calm = make_world()
    tell(calm, None)

    for instant in (5, 23, 40):
        world = make_world(seed=instant, lose=0.2, repeat=0.2, reorder=0.5)
        assert tell(world, Fuse(instant)) == 1
        assert digests(world) == digests(calm)
        counted_once(world)


def test_a_hub_dropped_between_two_updates_goes_on(make_world: MakeWorld) -> None:
    """One update journalled, two to come, the hub gone: a new one on the folder asks for the two and no more."""
    world = make_world()
    for name in ("coop", "mill"):
        world.devices[name].jobs_held = True
    world.ask("open", kind="train")
    world.network.pump()
    assert world.show(1)["answered"] == 1

    world.hub = world.start_hub()
    for device in world.devices.values():
        device.jobs_held = False
    sent_before = len(world.devices["barn"].sent)
    world.settle()

    assert world.show(1)["state"] == "complete"
    assert len(world.devices["barn"].sent) == sent_before == 1
    counted_once(world)


@pytest.mark.parametrize("fault", [FullDisk, LostAnswer])
@pytest.mark.parametrize(
    ("first", "step"), [(2, 29), pytest.param(1, 3, marks=pytest.mark.heavy)], ids=["some instants", "every third"]
)
def test_a_failing_disk_or_server_puts_off_and_loses_nothing(
    make_world: MakeWorld, backend: str, fault: Callable[[int], Fuse], first: int, step: int
) -> None:
    """A hub that lives on ends with the versions of one that never met a fault; what it receipted is counted once."""
    calm = make_world()
    tell(calm, None)

    told = 0
    for world in every(make_world, fault, story, instants(first, step, backend)):
        assert digests(world) == digests(calm), f"with the fault number {told}"
        assert [r.phase for r in world.hub.home.ledger.rounds()] == ["complete"] * len(STORY)
        counted_once(world)
        told += 1
    assert next(islice(instants(first, step, backend), told, None)) > 60


@pytest.mark.parametrize("kind", STORY[:2])
def test_the_deadline_survives_a_restart(make_world: MakeWorld, kind: str) -> None:
    """A round that was opened before a kill ends at its own deadline, not at a later one."""
    world = make_world()
    for device in world.devices.values():
        device.jobs_held = True
    world.ask("open", kind=kind, deadline_s=50)
    world.now_s += 40
    world.hub = world.start_hub()
    world.hub.tick()
    assert world.show(1)["state"] == "collecting"

    world.now_s += 10
    world.hub.tick()

    assert world.show(1)["state"] == "failed"
