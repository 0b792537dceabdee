"""Deadlines when somebody sets the system's clock, while the hub runs and between two runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hub.serving.clock import GRACE_S, after_start, steady_clock
from tests.hub.world import World

MakeWorld = Callable[..., World]
DAY_S = 86_400.0
LENGTH_S = 50.0


def held(world: World) -> int:
    """A round that nobody answers yet."""
    for device in world.devices.values():
        device.jobs_held = True
    number: int = world.ask("open", kind="train", deadline_s=LENGTH_S)["round"]
    world.network.pump()
    return number


def state_after(world: World, number: int, seconds: float) -> str:
    """The state of a round when so much time has passed."""
    world.now_s += seconds
    world.hub.tick()
    return str(world.show(number)["state"])


def test_a_clock_that_is_set_does_not_move_ours() -> None:
    """It begins with the system's clock and then counts on its own."""
    times = {"wall": 1e9, "steady": 5.0}
    clock = steady_clock(lambda: times["wall"], lambda: times["steady"])

    times.update(wall=1e9 + DAY_S, steady=12.0)

    assert clock() == 1e9 + 7.0


def test_the_real_clock_is_that_of_the_system() -> None:
    """Without being told of other clocks, seconds since 1970."""
    import time

    assert steady_clock()() == pytest.approx(time.time(), abs=60.0)


@pytest.mark.parametrize("set_s", [-DAY_S, DAY_S], ids=["back", "ahead"])
def test_a_round_keeps_its_deadline_while_the_hub_runs(make_world: MakeWorld, set_s: float) -> None:
    """Set by a day in the middle of a round, the system's clock neither ends it early nor prolongs it."""
    world = make_world()
    number = held(world)
    world.set_s = set_s

    assert state_after(world, number, LENGTH_S - 1) == "collecting"
    assert state_after(world, number, 1) == "failed"


def test_set_back_between_two_runs_a_round_waits_its_length_at_most(make_world: MakeWorld) -> None:
    """The kept deadline is a day away by the new clock; the round ends after its own length."""
    world = make_world()
    number = held(world)
    world.set_s = -DAY_S
    world.hub = world.start_hub()

    assert state_after(world, number, LENGTH_S - 1) == "collecting"
    assert state_after(world, number, 1) == "failed"


def test_set_ahead_between_two_runs_a_round_waits_for_those_that_were_done(make_world: MakeWorld) -> None:
    """The kept deadline is over by the new clock; boards that answer at once still count."""
    world = make_world()
    number = held(world)
    world.set_s = DAY_S
    world.hub = world.start_hub()

    assert state_after(world, number, 0) == "collecting"
    for device in world.devices.values():
        device.jobs_held = False
    world.settle()

    assert world.show(number)["state"] == "complete"


def test_down_for_long_a_round_ends_soon(make_world: MakeWorld) -> None:
    """Where nobody answers, it ends after the grace, or its own length where that is less."""
    world = make_world()
    number = held(world)
    world.now_s += DAY_S
    world.hub = world.start_hub()

    assert state_after(world, number, min(GRACE_S, LENGTH_S) - 1) == "collecting"
    assert state_after(world, number, 1) == "failed"


def test_a_deadline_that_holds_is_kept() -> None:
    """After a start, what is left is what was left."""
    assert after_start(1050.0, 60.0, 1000.0) == 1050.0
