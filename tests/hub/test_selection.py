"""Whom a round asks: by what devices say of themselves, by what people call them, by lot and by need."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from console.errors import EdgequiltError, HubError
from hub.selection import Board, choose, selection_of
from tests.hub.world import World

MakeWorld = Callable[..., World]
BOARDS = (
    Board("a", jobs=("train",), samples=100, counted_samples=90, power="mains", network="wired", memory_bytes=900),
    Board("b", jobs=("train",), samples=50, power="battery", battery_percent=40, network="wifi", memory_bytes=100),
    Board("c", jobs=("train",), samples=20, counted_samples=20, groups=frozenset({"yard"}), tags=frozenset({"new"})),
    Board("d", jobs=("statistics",), samples=999, power="mains"),
    Board("e", jobs=("train",), samples=999, online=False),
)


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ({}, ["a", "b", "c"]),
        ({"select": "need:1"}, ["b"]),
        ({"select": "need:2"}, ["a", "b"]),
        ({"power": "mains"}, ["a"]),
        ({"power": "40"}, ["a", "b"]),
        ({"power": "41"}, ["a"]),
        ({"network": "wired"}, ["a"]),
        ({"memory_bytes": 500}, ["a"]),
        ({"group": "yard"}, ["c"]),
        ({"tag": "new"}, ["c"]),
    ],
    ids=str,
)
def test_only_devices_that_can_and_meet_the_conditions_are_asked(told: dict[str, object], asked: list[str]) -> None:
    """A device is asked if it is online, can do the job, and says what the conditions want; need takes unseen rows."""
    assert choose(BOARDS, selection_of(told), "train", "seed")[0] == asked


def test_a_lot_is_drawn_once(make_world: MakeWorld) -> None:
    """The same round draws the same devices however often it is asked, and over many rounds each device is drawn."""
    told = selection_of({"select": "random:1"})
    drawn = [tuple(choose(BOARDS, told, "train", f"round {n}")[0]) for n in range(60)]

    assert drawn == [tuple(choose(BOARDS, told, "train", f"round {n}")[0]) for n in range(60)]
    assert set(drawn) == {("a",), ("b",), ("c",)}


@pytest.mark.parametrize("told", [{"select": "random"}, {"select": "all:2"}, {"power": "101"}, {"network": "smoke"}])
def test_what_is_no_selection_is_said(told: dict[str, object]) -> None:
    """A rule or a condition that does not exist is refused in one sentence."""
    with pytest.raises(EdgequiltError, match="expected .*, found"):
        selection_of(told)


def test_a_group_is_a_name_for_devices(make_world: MakeWorld) -> None:
    """Devices get names and lose them; a round of a group asks the group; strange names and devices are refused."""
    world = make_world()
    world.ask("name", of="group", name="yard", devices=["barn", "mill"], add=True)
    found = world.ask("name", of="group", name="yard", devices=["mill"], add=False)
    assert found == {"groups": {"yard": ["barn"]}}
    world.ask("name", of="tag", name="old", devices=["coop"], add=True)
    assert world.ask("names", of="tag") == {"tags": {"old": ["coop"]}}

    assert set(world.run("statistics", group="yard")["per_device"]) == {"barn"}
    assert set(world.run("statistics", tag="old")["per_device"]) == {"coop"}
    with pytest.raises(HubError, match="expected"):
        world.ask("open", kind="statistics", group="nobody")
    with pytest.raises(HubError, match="expected enrolled devices, found hill"):
        world.ask("name", of="group", name="yard", devices=["hill"], add=True)
    with pytest.raises(EdgequiltError, match="expected a name of small letters"):
        world.ask("name", of="group", name="Big Yard", devices=["barn"], add=True)


def test_a_round_by_need_asks_who_has_rows_that_no_version_has_seen(make_world: MakeWorld) -> None:
    """After a device trained, another one is needier; a lot asks as many as it says."""
    world = make_world()
    world.run("statistics")
    first = set(world.run("train", select="need:1")["per_device"])
    second = set(world.run("train", select="need:1")["per_device"])

    assert len(first) == len(second) == 1
    assert first != second
    assert len(world.run("train", select="random:2")["per_device"]) == 2
