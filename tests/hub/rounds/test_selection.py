"""Whom a round asks: by what devices say of themselves, by what people call them, by lot and by need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from console.errors import EdgequiltError, HubError
from hub.rounds.selection import Board, Selection, choose, selection_of
from hub.store import registry
from tests.hub.world import RANKS, World
from wire import messages as m

MakeWorld = Callable[..., World]
ROOM = (
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
        ({"power": "0"}, ["a", "b"]),
        ({"devices": ["e", "d"]}, ["d", "e"]),
        ({"devices": ["b", "d"], "power": "mains"}, ["d"]),
        ({"network": "unmetered"}, ["a", "b"]),
        ({"network": "wired"}, ["a"]),
        ({"memory_bytes": 500}, ["a"]),
        ({"group": "yard"}, ["c"]),
        ({"tag": "new"}, ["c"]),
    ],
    ids=str,
)
def test_only_devices_that_can_and_meet_the_conditions_are_asked(told: dict[str, object], asked: list[str]) -> None:
    """A device is asked if it is online, can do the job, and says what the conditions want; need takes unseen rows."""
    assert choose(ROOM, selection_of(told), "train", "seed")[0] == asked


def test_a_lot_is_drawn_once(make_world: MakeWorld) -> None:
    """The same round draws the same devices however often it is asked, and over many rounds each device is drawn."""
    told = selection_of({"select": "random:1"})
    drawn = [tuple(choose(ROOM, told, "train", f"round {n}")[0]) for n in range(60)]

    assert drawn == [tuple(choose(ROOM, told, "train", f"round {n}")[0]) for n in range(60)]
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


BOARDS = [
    Board(
        "barn", jobs=("train",), samples=50, power="mains", network="wired", memory_bytes=900, groups=frozenset({"a"})
    ),
    Board("coop", jobs=("train",), samples=90, power="battery", battery_percent=80, network="wifi", memory_bytes=500),
    Board("mill", jobs=("train",), samples=70, power="battery", battery_percent=20, network="metered"),
    Board("shed", jobs=("train",), samples=40, tags=frozenset({"outdoors"})),
    Board("hall", jobs=("evaluate",), power="mains"),
    Board("away", online=False, jobs=("train",), power="mains"),
]


def chosen(over: float = 0.0, seed: str = "7", boards: list[Board] = BOARDS, **told: Any) -> tuple[list[str], int]:
    """Who of them is asked to train, and how many answers are wanted."""
    return choose(boards, selection_of(told), "train", seed, over)


def test_a_battery_of_unknown_charge_is_not_charged() -> None:
    """A board on battery that does not say how full it is does not meet a condition on it."""
    silent = [replace(b, battery_percent=None) for b in BOARDS]
    assert chosen(boards=silent, power="10") == (["barn"], 1)


def test_a_lot_is_fair_and_the_same_again() -> None:
    """One seed draws the same devices whatever their order; over many seeds each is drawn equally often."""
    assert chosen(select="random:2") == chosen(select="random:2", boards=BOARDS[::-1])
    drawn = [name for seed in range(400) for name in chosen(select="random:2", seed=f"{seed}")[0]]
    counts = [drawn.count(name) for name in ("barn", "coop", "mill", "shed")]
    assert sum(counts) == 800
    assert all(150 < count < 250 for count in counts)  # five standard deviations of 10


def test_need_is_what_no_version_has_seen() -> None:
    """Those with most rows since they last counted come first; among equals whose rows counted longest ago."""
    seen = [replace(b, counted_samples=b.samples, counted_version=i) for i, b in enumerate(BOARDS[::-1])]
    assert chosen(select="need:2") == (["coop", "mill"], 2)
    assert chosen(select="need:1", boards=seen) == (["shed"], 1)
    fresh = [replace(b, counted_samples=0) if b.name == "barn" else b for b in seen]
    assert chosen(select="need:1", boards=fresh) == (["barn"], 1)


def test_more_are_asked_than_are_wanted() -> None:
    """Over-selection asks so many more, as far as there are any, and wants what it wanted."""
    assert chosen(select="need:2", over=0.5) == (["barn", "coop", "mill"], 2)
    assert chosen(select="need:4", over=0.5) == (["barn", "coop", "mill", "shed"], 4)
    assert chosen(over=1.0) == (["barn", "coop", "mill", "shed"], 2)


def test_nobody_is_able() -> None:
    """When nobody can be asked, the sentence says how many failed which condition."""
    with pytest.raises(HubError, match=r"found none of 6 \(4 are on battery or do not say.*1 cannot do this job"):
        chosen(boards=[replace(b, power="") for b in BOARDS], power="mains")


def test_what_an_agent_says_chooses(make_world: MakeWorld) -> None:
    """A hello with power and network counts; one of an agent that does not know them meets no such condition."""
    world = make_world()
    for name, network in {"barn": "wired", "coop": "metered"}.items():
        device = world.devices[name]
        hello = m.Hello(device.sender(), "a", "p", "0" * 64, 2, ("train",), 5, power="mains", network=network)
        device.say(hello)
    world.network.pump()

    assert set(world.run("train", network="unmetered")["per_device"]) == {"barn"}
    assert set(world.run("train", power="mains")["per_device"]) == {"barn", "coop"}
    assert [d["network"] for d in world.ask("status")["devices"]] == ["wired", "metered", ""]


def test_those_in_need_take_turns(make_world: MakeWorld) -> None:
    """By need, the boards whose rows no version has seen come first, until all have had their turn."""
    world = make_world()
    asked = [set(world.run("train", select="need:1")["per_device"]) for _ in RANKS]
    assert set.union(*asked) == set(RANKS)

    lapped = world.run("train", select="need:1", laps=3)
    assert [u["device"] for u in lapped["updates"]] == [next(iter(names)) for names in asked]


def test_markers_outlive_the_hub(make_world: MakeWorld) -> None:
    """Whose rows counted, and of how many, is in the ledger."""
    world = make_world()
    world.run("train", devices=["coop"])
    world.hub.home.ledger.close()
    home = registry.open_home(world.folder)
    row = home.ledger.device("coop")
    home.ledger.close()
    assert row is not None
    assert row["marker"] == {"samples": len(world.devices["coop"].classes), "version": 1}


def test_a_selection_is_kept_with_its_round(make_world: MakeWorld) -> None:
    """What was asked for is in the round's state, as it was asked for."""
    world = make_world()
    world.run("train", select="random:2", memory_bytes=0)
    state = world.hub.home.ledger.round(1)
    assert state is not None
    assert state.selection == Selection("random", 2)
    assert len(state.seats) == 2
