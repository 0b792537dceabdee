"""A board is forgotten: its statistics exactly, what it sent and said wholly, what it trained not, and that is said."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from console.errors import HubError
from hub.making import versions
from hub.verbs.keeping import forgotten_text
from tests.faults import set_fire
from tests.fuse import Fuse, Killed
from tests.hub.world import RANKS, World

MakeWorld = Callable[..., World]


def head_of(world: World, number: int = -1) -> str:
    """The blob of a version's head: its name is the digest of all of its numbers."""
    return versions.read_made(world.hub.home.ledger.versions()[number]).version.head


@pytest.mark.parametrize(("name", "head"), [("barn", "lda"), ("coop", "ridge"), ("mill", "nearest")])
def test_a_head_without_a_board_is_that_of_a_round_without_it(make_world: MakeWorld, name: str, head: str) -> None:
    """After forgetting, the released head has the very bytes of the head of a fleet that never had the board."""
    world, never = make_world(), make_world()
    world.run("statistics", recipe={"head": head})
    never.run("statistics", recipe={"head": head}, devices=sorted(set(RANKS) - {name}))
    before = head_of(world)

    found = world.ask("forget", name=name)

    assert head_of(world) == head_of(never) != before
    assert found["models"]["tiny"] == {"heads": [2], "not_made": [], "trained_in": [], "released": 2}
    row = world.hub.home.ledger.versions()[-1]
    assert name not in [part["device"] for part in row["participants"]]
    assert world.devices[min(set(RANKS) - {name})].release is not None
    world.network.pump()
    assert all(d.release is not None and d.release.version == 2 for d in world.devices.values())


def test_what_a_board_sent_and_said_is_gone(make_world: MakeWorld) -> None:
    """No update, receipt, job or hello of it is left, and no file; those of others are; its name stays enrolled."""
    world = make_world()
    for kind in ("statistics", "train", "statistics"):
        world.run(kind)
    home = world.hub.home
    own = {r["digest"] for r in home.ledger.all_updates() if r["device"] == "coop"}
    others = {r["digest"] for r in home.ledger.all_updates() if r["device"] != "coop"}

    world.ask("forget", name="coop")

    assert len(own) == 4
    assert not any(home.blobs.path(name).exists() for name in own - others)
    assert all(home.blobs.path(name).exists() for name in others)
    assert {r["digest"] for r in home.ledger.all_updates()} == others
    assert all(r["device"] != "coop" for r in home.ledger.receipts(1000))
    device = home.ledger.device("coop")
    assert device is not None
    assert (device["hello"], device["marker"], device["trained_at_s"]) == (None, None, None)
    parts = [p for row in home.ledger.versions() for p in row["participants"] if p["device"] == "coop"]
    assert parts
    assert all(p["samples"] is None for p in parts)
    assert world.run("train", devices=["barn", "mill"])["state"] == "complete"


def test_what_was_trained_on_it_is_named(make_world: MakeWorld) -> None:
    """The versions that hold its training, and those that came of them, are named, with where to go back to."""
    world = make_world()
    world.run("statistics")
    world.run("train", devices=["barn", "mill"])
    world.run("train", devices=["coop", "mill"])
    world.run("train", devices=["barn", "mill"])

    found = world.ask("forget", name="coop")

    assert found["models"]["tiny"]["trained_in"] == [3, 4, 6]  # 6: the working version with another head
    text = forgotten_text(found)
    assert "version 3, 4, 6: what was trained on coop is in it and cannot be taken out" in text
    assert "edgequilt hub rollback 2" in text


def test_where_a_head_cannot_be_made_again_it_is_said(make_world: MakeWorld) -> None:
    """A head of one board, of sums that were let go, or of a sum under masks stays, and the answer says why."""
    alone, masked = make_world(), make_world()
    alone.run("statistics", devices=["coop"])
    masked.run("statistics", secure=True)
    assert "is of this board alone" in alone.ask("forget", name="coop")["models"]["tiny"]["not_made"][0]
    assert "the sum of its boards alone" in masked.ask("forget", name="coop")["models"]["tiny"]["not_made"][0]

    gone = make_world()
    gone.run("statistics")
    with gone.hub.home.ledger.transaction() as tx:
        from hub.store.writes import drop_updates

        drop_updates(tx, [r["id"] for r in gone.hub.home.ledger.all_updates()], 1.0)
    assert "were let go by [retention]" in gone.ask("forget", name="coop")["models"]["tiny"]["not_made"][0]


def test_a_board_in_an_open_round_is_not_forgotten(make_world: MakeWorld) -> None:
    """While a round waits for it, and for a name that is not enrolled, nothing is done."""
    world = make_world()
    world.devices["coop"].jobs_held = True
    world.ask("open", kind="train")
    with pytest.raises(HubError, match="expected no open round with coop, found round 1"):
        world.ask("forget", name="coop")
    with pytest.raises(HubError, match="expected an enrolled device, found hill"):
        world.ask("forget", name="hill")


@pytest.mark.heavy
def test_a_kill_while_forgetting_leaves_all_or_nothing(make_world: MakeWorld) -> None:
    """Killed at each instant of it, a hub has either forgotten nothing, or everything; asked again, everything."""
    for instant in range(1, 20, 3):
        world = make_world()
        world.run("statistics")
        set_fire(world.hub, fuse := Fuse(instant))
        try:
            world.ask("forget", name="coop")
        except Killed:
            world.hub = world.start_hub()
        names = [row["device"] for row in world.hub.home.ledger.all_updates()]
        count = len(world.hub.home.ledger.versions())
        assert (count, "coop" in names) in ((2, True), (3, False))
        if not fuse.struck:
            assert count == 3
            return
        world.ask("forget", name="coop")
        assert len(world.hub.home.ledger.versions()) == 3
    raise AssertionError("the fuse was longer")
