"""Rounds of statistics that follow training by themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from console.errors import UsageError
from tests.faults import instants, set_fire
from tests.fuse import Fuse, Killed
from tests.hub.serving.test_service import counted_once
from tests.hub.test_recovery import digests
from tests.hub.world import World

MakeWorld = Callable[..., World]


def kinds(world: World) -> list[tuple[str, str]]:
    """Kind and phase of all rounds."""
    return [(r.kind, r.phase) for r in world.hub.home.ledger.rounds()]


def test_statistics_follow_a_train_round(make_world: MakeWorld) -> None:
    """With --then, the version after training gets a new head, passes the gate and is released, unasked."""
    world = make_world()
    world.run("statistics")

    trained = world.run("train", then="statistics")

    assert kinds(world) == [("statistics", "complete"), ("train", "complete"), ("statistics", "complete")]
    after = world.show(3)
    assert (trained["then"], after["follows"]) == ("statistics", 2)
    assert after["versions"] == [trained["version"]]
    assert after["gate"]["decided"]
    assert after["settings"]["ranks"] == [4]
    assert {s["state"] for s in after["per_device"].values()} == {"arrived"}


def test_a_head_is_refreshed_after_so_many_rounds(make_world: MakeWorld) -> None:
    """With refresh_head = 2 every second round of training is followed by statistics."""
    world = make_world()
    home = world.hub.home
    home.config = replace(home.config, rounds=replace(home.config.rounds, refresh_head=2))

    for _ in range(4):
        world.run("train")

    assert [kind for kind, _ in kinds(world)] == ["train", "train", "statistics"] * 2


def test_nothing_follows_a_round_that_failed(make_world: MakeWorld) -> None:
    """A round of training without a quorum, or stopped by hand, is followed by nothing."""
    world = make_world()
    for device in world.devices.values():
        device.excuse = "no rows"
    world.run("train", then="statistics")
    for device in world.devices.values():
        device.jobs_held = True
    world.ask("open", kind="train", then="statistics")
    world.ask("stop", round=2)

    assert kinds(world) == [("train", "failed"), ("train", "failed")]


def test_only_training_is_followed(make_world: MakeWorld) -> None:
    """Asking for it after another kind is refused with words."""
    with pytest.raises(UsageError, match="expected statistics to follow a train round, found statistics after"):
        make_world().ask("open", kind="statistics", then="statistics")


@pytest.mark.parametrize(
    ("first", "step"), [(1, 29), pytest.param(1, 1, marks=pytest.mark.heavy)], ids=["some instants", "end to end"]
)
def test_a_kill_between_the_rounds_changes_nothing(make_world: MakeWorld, backend: str, first: int, step: int) -> None:
    """Killed before and after each write in turn, the hub ends with both rounds and the versions of a calm one."""
    calm = make_world()
    calm.run("train", then="statistics")

    for instant in instants(first, step, backend):
        world, kills = make_world(), 0
        set_fire(world.hub, Fuse(instant))
        while True:
            try:
                if not world.hub.home.ledger.last_round():
                    world.ask("open", kind="train", then="statistics")
                world.settle()
                break
            except Killed:
                kills += 1
                world.hub = world.start_hub()
        assert digests(world) == digests(calm), f"after a kill at instant {instant}"
        assert kinds(world) == kinds(calm)
        counted_once(world)
        if kills == 0:
            break
    assert instant > 30
