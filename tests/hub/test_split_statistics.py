"""Rounds of statistics of fronts and tails, with fake agents on a real hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from console.errors import HubError, UsageError
from hub.making.versions import read_made
from hub.rounds.refusal import refusal
from hub.rounds.tails import GRACE_S
from tests.hub.split import leave, put_front, put_tail, split_world
from tests.hub.world import World
from wire.adapter import read_adapter
from wire.kinds.head import Head

MakeWorld = Callable[..., World]
BEHIND = "r1-statistics-barn.tail"


def heads(world: World) -> dict[int, Head]:
    """Those of the tip, by rank."""
    home = world.hub.home
    row = home.ledger.version(home.ledger.tip("tiny"))
    assert row is not None
    return dict(read_adapter(home.blobs.get(read_made(row).version.head), "the heads").heads)


def same(one: dict[int, Head], other: dict[int, Head]) -> bool:
    """Whether heads are equal to the bit."""
    return one.keys() == other.keys() and all(
        np.array_equal(one[r].weight, other[r].weight) and np.array_equal(one[r].bias, other[r].bias) for r in one
    )


@pytest.fixture
def world(make_world: MakeWorld, tmp_path: Path) -> World:
    """Two boards with fronts and one with the whole model, and a tail."""
    return split_world(make_world, tmp_path)


def test_a_round_of_statistics_with_fronts_makes_the_head_of_whole_boards(world: World, make_world: MakeWorld) -> None:
    """To the bit; a board's sums come from the board alone, and its tail is neither waited for nor heard."""
    found = world.run("statistics")
    made, barn = heads(world), world.devices["barn"]

    assert found["state"] == "complete", found
    assert {s["state"] for s in found["per_device"].values()} == {"arrived"}
    assert {(u["device"], u["kind"]) for u in found["updates"]} == {(n, "statistics") for n in ("barn", "coop", "mill")}
    told = {"coding": "float32", "labels": "stay", "mode": "features"}
    job = barn.seen["r1-statistics-barn"].settings["split"]
    assert job == {**told, "tail": "tail-1", "key": world.devices["tail-1"].key.public.line, "address": ""}
    job = world.devices["tail-1"].seen["r1-statistics-barn.tail"].settings["split"]
    assert job == {**told, "board": "barn", "key": barn.key.public.line}
    assert "split" not in world.devices["mill"].seen["r1-statistics-mill"].settings
    whole = make_world()
    whole.run("statistics")
    assert same(made, heads(whole))


def test_a_tail_has_no_say_in_a_round_of_statistics(world: World) -> None:
    """What a tail sends under a board's name is refused with words before anything is taken."""
    world.devices["barn"].jobs_held = True
    world.ask("open", kind="statistics")
    state = world.hub.home.ledger.open_rounds("tiny")[0]

    why = refusal(state, BEHIND, "tail-1", "tail", state.versions[0])

    assert why == f"expected no update of a tail in a round of statistics, found one for {BEHIND}; drop it"


def test_boards_whose_tail_went_away_gather_with_another(world: World) -> None:
    """They are asked again, with the next tail; without any left, the round goes on without them."""
    world.devices["barn"].jobs_held = True
    put_tail(world, "tail-2")
    number = world.ask("open", kind="statistics")["round"]
    for name in ("tail-1", "tail-2"):
        world.settle(1)
        leave(world, name)
        world.settle(int(GRACE_S) // 5 + 2, devices=[])

    found = world.show(number)
    assert found["state"] == "complete", found
    seat = found["per_device"]["barn"]
    assert (seat["state"], seat["moved"]) == ("failed", 2)
    assert seat["reason"].startswith("no tail is left for it")
    assert {"r1-statistics-barn", "r1.2-statistics-barn"} <= set(world.devices["barn"].seen)


def test_statistics_follow_training_of_fronts(world: World) -> None:
    """The round that follows by itself asks fronts, too, each with a tail."""
    world.run("train", then="statistics")

    found = world.show(2)
    assert (found["kind"], found["state"], found["follows"]) == ("statistics", "complete", 1)
    assert {n: s.get("tail") for n, s in found["per_device"].items()} == {
        "barn": "tail-1",
        "coop": "tail-1",
        "mill": None,
    }
    assert {s["state"] for s in found["per_device"].values()} == {"arrived"}


def test_what_fronts_alone_made_is_not_lost_for_want_of_judges(world: World, tmp_path: Path) -> None:
    """No front evaluates, so a new head of theirs is no candidate: work goes on from it, and people release it."""
    put_front(world, tmp_path / "all", ("mill",))
    first, trained, found = world.run("statistics"), world.run("train", then="statistics"), world.show(3)

    assert first["released"]
    assert [one["state"] for one in (first, trained, found)] == ["complete"] * 3
    assert not found["released"]
    assert found["sentence"].endswith("not a candidate for release")
    ledger = world.hub.home.ledger
    assert ledger.tip("tiny") == found["version"]["digest"]
    assert world.run("statistics")["sentence"].endswith("not a candidate for release")
    world.ask("deploy", version="tip")
    release = ledger.release("tiny")
    assert release is not None
    assert release["digest"] == ledger.tip("tiny")


def test_what_statistics_of_fronts_cannot_be(world: World, tmp_path: Path) -> None:
    """Labels stay and nothing is learned, so only the coding may be chosen; no masks over what a tail has a part in."""
    for words, request in (
        ("expected coding: .*, found labels along; mode local", {"labels": "along", "mode": "local"}),
        ("coding: int8, float16, float32, found coding int4", {"coding": "int4"}),
    ):
        with pytest.raises(UsageError, match=words):
            world.ask("open", kind="statistics", split=request)
    with pytest.raises(UsageError, match="found the front of it on barn; gather statistics without --secure"):
        world.ask("open", kind="statistics", devices=["barn", "mill"], secure=True)
    put_front(world, tmp_path / "all", ("mill",))
    with pytest.raises(
        HubError, match="barn, coop, mill hold the front .* can take part if you gather statistics without"
    ):
        world.ask("open", kind="statistics", secure=True)
