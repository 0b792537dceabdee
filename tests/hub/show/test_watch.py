"""What a person who watches the hub sees, from a world where devices come, answer and fail."""

from __future__ import annotations

from collections.abc import Callable

from hub.show.watch import news, page
from tests.hub.world import World
from wire import messages as m

MakeWorld = Callable[..., World]


def look(world: World) -> dict:  # type: ignore[type-arg]  # plain JSON
    """What `hub watch` asks for."""
    status = world.ask("status")
    return {"status": status, "rounds": [world.show(r["round"]) for r in status["rounds_open"]]}


def test_a_page_names_devices_rounds_and_what_they_answered(make_world: MakeWorld) -> None:
    """While a round runs the page shows each of its devices with its state, and a bar of those that answered."""
    world = make_world()
    world.devices["coop"].jobs_held = True
    world.ask("open", kind="statistics")
    world.network.pump()

    text = page(look(world))

    assert "round 1 (statistics) collecting: 2 of 3  [################........]" in text
    assert {line.split()[0]: line.split()[1] for line in text.split("why\n")[1].splitlines()[1:4]} == {
        "barn": "arrived",
        "coop": "waiting",
        "mill": "arrived",
    }


def test_news_are_told_once_and_in_order(make_world: MakeWorld) -> None:
    """Each arrival, failure, new state and release is one line, told at the look at which it is first seen."""
    world = make_world()
    world.devices["coop"].excuse = "too hot"
    looks = [look(world)]
    world.ask("open", kind="statistics")
    looks.append(look(world))
    world.network.pump()
    looks.append(look(world))
    world.settle()
    looks.append(look(world))
    barn = world.devices["barn"]
    barn.say(m.Presence(barn.sender(), "offline"))
    world.network.pump()
    looks += [look(world)] * 2

    told = [news(before, after) for before, after in zip([None, *looks], looks, strict=False)]

    assert told[0] == ["fleet farm: 3 of 3 devices online"]
    assert told[1] == ["round 1 (statistics) is open for 3 devices"]
    lines = told[2] + told[3]
    assert [line for line in lines if "released" in line][-1] == "version 1 is released"
    assert any(line.startswith("round 1 (statistics) complete") for line in lines)
    assert told[4] == ["barn went offline"]
    assert told[5] == []


def test_what_devices_say_cannot_move_the_cursor(make_world: MakeWorld) -> None:
    """A reason with control characters is spelled out, on the page as in the lines."""
    world = make_world()
    for device in ("coop", "mill"):
        world.devices[device].jobs_held = True
    world.devices["barn"].excuse = "\x1b[2Jgone"
    before = look(world)
    world.ask("open", kind="statistics")
    world.network.pump()
    after = look(world)

    assert "\x1b" not in page(after)
    assert "round 1 (statistics): barn failed (\\x1b[2Jgone)" in news(before, after)
