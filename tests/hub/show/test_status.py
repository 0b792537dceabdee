"""What the hub's status says of how its boards are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hub.show.status import status_text
from tests.hub.world import World
from wire.messages import Hello

DIGEST = "0" * 64


def test_heat_and_warnings_of_a_board_are_shown_as_it_said_them_last(make_world: Callable[..., World]) -> None:
    """All readings are in the plain values, heat and warnings on the page; what is unknown is a dash or null."""
    world = make_world()
    barn = world.devices["barn"]
    hot = Hello(barn.sender(), "numpy", barn.profile, DIGEST, barn.rank, tuple(barn.jobs), 3)
    hot = replace(hot, temperature_c=84.4, under_voltage=True, disk_free_bytes=5, uptime_s=60.0, load=1.5)
    barn.say(replace(hot, warnings=("hot", "under-voltage", "\x1b[2J")))
    world.network.pump()

    found = world.ask("status")
    told = {d["device"]: d for d in found["devices"]}
    assert (told["barn"]["temperature_c"], told["barn"]["under_voltage"], told["barn"]["throttled"]) == (
        84.4,
        True,
        None,
    )
    assert (told["barn"]["disk_free_bytes"], told["barn"]["uptime_s"], told["barn"]["load"]) == (5, 60.0, 1.5)
    assert (told["coop"]["temperature_c"], told["coop"]["warnings"]) == (None, [])
    page = status_text(found)
    assert "84 °C" in page
    assert "barn: hot, under-voltage, \\x1b[2J" in page
    assert "coop: " not in page

    barn.say(replace(hot, sender=barn.sender(), temperature_c=50.0, under_voltage=False))
    world.network.pump()
    assert "boards that warn" not in status_text(world.ask("status"))
