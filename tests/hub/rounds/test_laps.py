"""Rounds of several versions, synchronous and buffered, with devices that are slow, late, doubled or out of order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from console.errors import HubError, StorageError
from hub.store.blobs import Blobs
from tests.fleet import Device
from tests.hub.oracle import check_versions
from tests.hub.serving.test_service import counted_once
from tests.hub.world import RANKS, World
from wire import messages as m
from wire.chunks import cut
from wire.kinds.lora import Lora

MakeWorld = Callable[..., World]
MODES: dict[str, dict[str, Any]] = {
    "laps": {"laps": 3},
    "buffered": {"mode": "buffered", "buffer": 2, "laps": 5},
    "asynchronous": {"mode": "buffered", "buffer": 1, "laps": 6},
}
EVERY_MODE = pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())


@EVERY_MODE
def test_every_version_is_the_formula(make_world: MakeWorld, mode: dict[str, Any]) -> None:
    """Each version is its parent plus the updates' changes by rows and staleness, whole matrices say."""
    world = make_world()

    found = world.run("train", **mode)

    assert (found["state"], found["sentence"].split(";")[0]) == ("complete", f"{mode['laps']} versions")
    stale = check_versions(world, 1)
    assert bool(stale) == ("buffer" in mode)
    counted_once(world)


@EVERY_MODE
@pytest.mark.parametrize("seed", range(3))
def test_a_bad_network_loses_and_doubles_nothing(make_world: MakeWorld, seed: int, mode: dict[str, Any]) -> None:
    """With deliveries lost, repeated, out of order and corrupt, every receipted update is in one version, exactly."""
    world = make_world(seed=seed, lose=0.15, repeat=0.2, reorder=0.5, corrupt=0.05)
    number = world.ask("open", kind="train", devices=sorted(RANKS), **mode)["round"]

    world.settle(300)

    assert world.show(number)["state"] == "complete"
    check_versions(world, number)
    world.settle(20)
    counted_once(world)


def held(world: World, *names: str) -> list[Device]:
    """Those devices, which shall not begin their jobs."""
    for name in names:
        world.devices[name].jobs_held = True
    return [world.devices[name] for name in names]


def go(world: World, *devices: Device) -> None:
    """Let devices do the jobs that they have, once, and deliver everything."""
    for device in devices:
        device.jobs_held = False
        device.work()
        device.jobs_held = True
    world.network.pump()


def test_a_slow_board_counts_by_its_staleness(make_world: MakeWorld) -> None:
    """While a board computes others make versions; its update then counts for less, and it goes on from the tip."""
    world = make_world()
    barn, coop, mill = held(world, "barn", "coop", "mill")
    number = world.ask("open", kind="train", mode="buffered", buffer=1, laps=3, staleness=2)["round"]
    world.network.pump()

    go(world, barn)
    go(world, coop)
    assert world.show(number)["per_device"]["mill"]["staleness"] == 2
    go(world, mill)

    found = world.show(number)
    assert found["state"] == "complete"
    assert [(u["device"], u["staleness"]) for u in found["updates"]] == [("barn", 0), ("coop", 1), ("mill", 2)]
    assert [v["parents"] for v in world.ask("versions")["versions"]] == [[], [0], [1, 0], [2, 0]]
    assert [p["device"] for p in world.ask("version", version="2")["participants"]] == ["coop"]
    assert check_versions(world, number) == 2


def test_too_old_a_start_is_refused_and_asked_again(make_world: MakeWorld) -> None:
    """A board that missed too many versions is told so when it delivers, and has a job from the newest one already."""
    world = make_world()
    barn, _, mill = held(world, "barn", "coop", "mill")
    number = world.ask("open", kind="train", mode="buffered", buffer=1, staleness=0)["round"]
    world.network.pump()
    go(world, barn)

    mill.publish(mill.seen["r1-train-mill"])
    world.network.pump()

    assert mill.receipts[-1].status == "refused"
    assert "moved on without r1-train-mill: it made 1 version, and at most 0 may be missed" in mill.receipts[-1].reason
    assert mill.cancelled == ["r1-train-mill"]
    assert mill.seen["r1.2-train-mill"].versions == (world.show(number)["version"]["digest"],)
    go(world, mill)
    assert world.show(number)["lap"] == 2
    check_versions(world, number)


def test_enough_answers_end_a_round(make_world: MakeWorld) -> None:
    """Three are asked where two are wanted; the third is called off, and its late update has an answer of its own."""
    world = make_world()
    barn, coop, mill = held(world, "barn", "coop", "mill")
    opened = world.ask("open", kind="train", over=0.5)
    assert (opened["goal"], opened["quorum"]) == (2, 1)
    world.network.pump()

    go(world, barn, mill)

    found = world.show(1)
    assert (found["state"], found["per_device"]["coop"]["state"]) == ("complete", "spare")
    assert coop.cancelled == ["r1-train-coop"]
    coop.publish(coop.seen["r1-train-coop"])
    world.network.pump()
    assert "round 1 had the 2 updates that it asked for before r1-train-coop; drop it" in coop.receipts[-1].reason
    check_versions(world, 1)


@EVERY_MODE
def test_a_receipt_that_is_lost_is_given_again(make_world: MakeWorld, mode: dict[str, Any]) -> None:
    """A device that never heard its receipt sends again, versions later: a duplicate, counted once."""
    world = make_world()
    world.run("train", **mode)
    barn = world.devices["barn"]
    first = next(iter(barn.sent.values()))
    rows = len(world.hub.home.ledger.updates(1))

    barn.outbox[first.begin.update] = first
    barn.send(first.begin.update, ())
    world.network.pump()

    assert barn.receipts[-1].status == "duplicate"
    assert len(world.hub.home.ledger.updates(1)) == rows


@EVERY_MODE
def test_messages_out_of_order(make_world: MakeWorld, mode: dict[str, Any]) -> None:
    """A commit before its beginning is asked for it, chunks before theirs are dropped; then the update counts once."""
    world = make_world()
    barn, *_ = held(world, *RANKS)
    world.ask("open", kind="train", **mode)
    world.network.pump()
    barn.publish(barn.seen["r1-train-barn"])
    sent = next(iter(barn.sent.values()))
    world.network.endpoints["hub"].queue.clear()  # all that was said is lost

    for piece in cut(sent.data, (), barn.chunk_bytes):
        barn.say(piece)
    barn.say(m.Commit(barn.sender(), sent.begin.update))
    world.network.pump()  # the hub asks for the beginning, the device sends beginning and all

    assert [r.status for r in barn.receipts][:1] == ["accepted"]
    assert len(world.hub.home.ledger.updates(1)) == 1


@EVERY_MODE
def test_a_second_opinion_does_not_count(make_world: MakeWorld, mode: dict[str, Any]) -> None:
    """Another update for a job that counts is refused with words, even after its version was made."""
    world = make_world()
    world.run("train", **mode)
    barn, rows = world.devices["barn"], len(world.hub.home.ledger.updates(1))
    barn.train = lambda slot, start: Lora(start.a + 1, start.b + 1, start.scale)

    barn.publish(barn.seen["r1-train-barn"])
    world.network.pump()

    assert barn.receipts[-1].reason == "round 1 already counts another update of barn; drop this one"
    assert len(world.hub.home.ledger.updates(1)) == rows


def test_rubbish_holds_nobody_up(make_world: MakeWorld) -> None:
    """A board whose bytes are no adapter is refused and not waited for; a buffered round goes on with the others."""
    world = make_world()
    world.devices["barn"].corrupt = True

    found = world.run("train", mode="buffered", buffer=2, laps=3)

    assert found["state"] == "complete"
    assert {row["device"] for row in world.hub.home.ledger.updates(1)} == {"coop", "mill"}
    check_versions(world, 1)


def test_an_update_that_comes_while_a_version_is_made(make_world: MakeWorld) -> None:
    """While a version waits for room on the disk, updates have no answer; sent again, they count in the next one."""
    world = make_world()
    barn, _, mill = held(world, "barn", "coop", "mill")
    world.ask("open", kind="train", mode="buffered", buffer=1)
    world.network.pump()
    blobs = world.hub.home.blobs

    class NearlyFull(Blobs):
        """There is room for one update."""

        room = 1

        def put(self, data: bytes) -> str:
            """Keep it, or say that there is no room."""
            self.room -= 1
            if self.room < 0:
                raise StorageError("expected to write, stopped (No space left on device); free some space")
            return super().put(data)

    world.hub.home.blobs = NearlyFull(blobs.folder)
    go(world, barn, mill)
    assert (world.show(1)["state"], world.show(1)["lap"]) == ("making", 0)
    assert ([r.status for r in barn.receipts], mill.receipts) == (["accepted"], [])

    world.hub.home.blobs = blobs
    world.now_s += 1
    world.hub.tick()
    mill.retry()
    world.network.pump()

    assert [r.status for r in mill.receipts] == ["accepted"]
    assert [(u["device"], u["lap"], u["staleness"]) for u in world.show(1)["updates"]] == [
        ("barn", 0, 0),
        ("mill", 1, 1),
    ]
    check_versions(world, 1)


def test_a_round_until_it_is_stopped(make_world: MakeWorld) -> None:
    """Without a number of versions a round goes on; stopped, it makes what it has of the last one and is complete."""
    world = make_world()
    number = world.ask("open", kind="train", mode="buffered", buffer=2)["round"]
    world.network.pump(200)  # it would never come to rest
    assert world.show(number)["open"]
    assert world.show(number)["lap"] > 2
    with pytest.raises(HubError, match="found round 1; wait for it, or stop it"):
        world.ask("open", kind="train")

    found = world.ask("stop", round=number)
    world.settle()

    assert found["state"] == "complete"
    check_versions(world, number)
    assert world.run("statistics")["released"]


def test_boards_join_and_leave_a_continuous_round(make_world: MakeWorld) -> None:
    """Every lap asks who is there: a board that went is left out, one that came is asked."""
    world = make_world()
    barn, coop, mill = held(world, "barn", "coop", "mill")
    mill.say(m.Presence(m.Sender("mill", "boot-1", 0), "offline"))
    world.network.pump()
    world.ask("open", kind="train", laps=3)
    world.network.pump()
    assert set(world.show(1)["per_device"]) == {"barn", "coop"}
    mill.hello()
    go(world, barn)
    barn.say(m.Presence(m.Sender("barn", "boot-1", 0), "offline"))
    go(world, coop)
    go(world, coop, mill)

    laps = {n: {u["device"] for u in world.show(1)["updates"] if u["lap"] == n} for n in (0, 1)}
    assert laps == {0: {"barn", "coop"}, 1: {"coop", "mill"}}
    assert set(world.show(1)["per_device"]) == {"coop", "mill"}
