"""Rounds of split training: fronts, tails, and what becomes of both halves, with fake agents on a real hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import HubError, UsageError
from hub.making import versions
from hub.rounds.tails import GRACE_S
from tests.hub.bundles import SLOTS, manifest, write_bundle
from tests.hub.split import front_of, leave, put_front, put_tail, split, split_world
from tests.hub.world import RANKS, World
from wire.messages import Failed

PLANNED = {"step_ns": 10**9, "link_ns": 4 * 10**8}
MakeWorld = Callable[..., World]


def ladder(world: World) -> dict[str, Any]:
    """The tip's factors by slot."""
    ledger, blobs = world.hub.home.ledger, world.hub.home.blobs
    row = ledger.version(ledger.tip("tiny"))
    assert row is not None
    return versions.read_ladder(versions.read_made(row).version, blobs)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two ladders are equal to the bit."""
    return one.keys() == other.keys() and all(
        np.array_equal(one[n].a, other[n].a) and np.array_equal(one[n].b, other[n].b) for n in one
    )


@pytest.fixture
def unsplit(make_world: MakeWorld) -> dict[str, Any]:
    """What a round makes of the same boards with the whole model each."""
    world = make_world()
    world.run("train")
    return ladder(world)


@pytest.fixture
def world(make_world: MakeWorld, tmp_path: Path) -> World:
    """Two boards with fronts and one with the whole model, and a tail."""
    return split_world(make_world, tmp_path)


def held(world: World, *names: str) -> None:
    """Let only some devices work."""
    for name, device in world.devices.items():
        device.jobs_held = name not in names


def test_a_split_round_makes_what_whole_boards_would(world: World, unsplit: dict[str, Any]) -> None:
    """Fronts and tails together give, to the bit, the version of boards that hold the model whole."""
    found = world.run("train")

    assert found["state"] == "complete"
    assert same(ladder(world), unsplit)
    assert found["per_device"]["barn"]["halves"] == ["front", "tail"]
    rows = {(u["device"], u["kind"]) for u in found["updates"]}
    assert rows == {("barn", "adapter"), ("barn", "tail"), ("coop", "adapter"), ("coop", "tail"), ("mill", "adapter")}
    assert {r.status for r in world.devices["tail-1"].receipts} == {"accepted"}
    assert len(world.devices["tail-1"].receipts) == 2


def test_jobs_of_both_halves_name_each_other(world: World) -> None:
    """The board's job names its tail, the tail's its board, each by its enrolled key; whole boards see none."""
    world.run("train", split={"coding": "float16"})

    tail, barn = world.devices["tail-1"], world.devices["barn"]
    told = {"coding": "float16", "labels": "along", "mode": "steps"}
    of_board = barn.seen["r1-train-barn"].settings["split"]
    assert of_board == {**told, "tail": "tail-1", "key": tail.key.public.line, "address": ""}
    job = tail.seen["r1-train-barn.tail"]
    assert job.kind == "tail"
    assert job.settings["split"] == {**told, "board": "barn", "key": barn.key.public.line}
    assert {k: v for k, v in job.settings.items() if k != "split"} == world.devices["mill"].seen[
        "r1-train-mill"
    ].settings


def test_boards_are_spread_over_tails(world: World) -> None:
    """Each board gets the tail that has the fewest."""
    put_tail(world, "tail-2")

    found = world.run("train")

    assert [found["per_device"][n]["tail"] for n in ("barn", "coop")] == ["tail-1", "tail-2"]


def test_a_board_that_has_tails_is_busy_with_its_own_job(world: World) -> None:
    """A device that trains on rows of its own in a round has a job more than one that only has tails."""
    mill = world.devices["mill"]
    mill.jobs = (*mill.jobs, "tail")
    mill.hello()
    world.network.pump()
    found = world.ask("open", kind="train")

    assert [found["per_device"][n]["tail"] for n in ("barn", "coop")] == ["tail-1", "mill"]


def test_boards_of_a_tail_that_went_away_go_on_with_another(world: World, unsplit: dict[str, Any]) -> None:
    """Who has not finished is asked again with another tail; what was receipted counts once, and the round ends."""
    second = put_tail(world, "tail-2")
    held(world, "coop", "tail-2", "mill")  # barn's tail is tail-1, coop's tail-2
    number = world.ask("open", kind="train")["round"]
    world.settle(2)
    assert world.show(number)["per_device"]["coop"]["state"] == "arrived"
    leave(world, "tail-1")
    held(world, "barn", "tail-2")
    world.devices["barn"].jobs_held = True
    world.settle(int(GRACE_S) // 5 + 2, devices=[])
    world.devices["barn"].jobs_held = False
    world.settle()

    found = world.show(number)
    assert found["state"] == "complete"
    assert found["per_device"]["barn"] | {"moved": 1, "tail": "tail-2"} == found["per_device"]["barn"]
    assert "r1-train-barn" in world.devices["barn"].cancelled
    assert {"r1.2-train-barn.tail", "r1-train-coop.tail"} == set(second.done)
    assert same(ladder(world), unsplit)


def test_without_a_tail_the_round_goes_on_without_its_boards(world: World) -> None:
    """With no tail left its boards are left out, with a sentence, and the others make the version."""
    held(world, "mill")
    number = world.ask("open", kind="train")["round"]
    leave(world, "tail-1")
    world.settle(20, devices=[world.devices["mill"]])

    found = world.show(number)
    seats = found["per_device"]
    assert {seats[n]["state"] for n in ("barn", "coop")} == {"failed"}
    assert seats["barn"]["reason"] == "no tail is left for it: tail-1 has its tail and went offline"
    assert found["state"] == "failed"  # one of three is no quorum
    assert "no tail is left" in found["sentence"]


def test_a_front_without_its_tails_half_counts_in_its_slots(world: World) -> None:
    """What was receipted counts: in the front's slots for all boards, behind them for those whose tail's half came."""
    held(world, "barn", "coop", "mill")
    number = world.ask("open", kind="train")["round"]
    before = ladder(world)
    leave(world, "tail-1")
    world.settle(20, devices=[world.devices[n] for n in RANKS])

    found = world.show(number)
    assert found["state"] == "complete"
    assert "3 of 3 devices answered; barn counts without its tail's half: tail-1 has its tail" in found["sentence"]
    made, mill = ladder(world), world.devices["mill"]
    rows = {n: len(world.devices[n].classes) for n in RANKS}
    for slot, voters in {"layer.0.query": tuple(RANKS), "layer.1.value": ("mill",)}.items():
        total, wanted = sum(rows[n] for n in voters), before[slot].product()
        for name in voters:
            start = before[slot].prefix(RANKS[name])
            wanted = wanted + rows[name] / total * (world.devices[name].train(slot, start).product() - start.product())
        assert np.linalg.norm(made[slot].product() - wanted) < 1e-6 * np.linalg.norm(wanted)
    assert mill.receipts


def test_a_board_that_cannot_reach_its_tail_gets_another(world: World) -> None:
    """A board that says its tail is at fault is asked again with the tail that it has not tried."""
    put_tail(world, "tail-2")
    held(world)
    world.ask("open", kind="train")
    barn = world.devices["barn"]
    world.network.pump()
    barn.say(Failed(barn.sender(), "r1-train-barn", "nothing came for 120 s", "tail-1"))
    barn.waiting.pop("r1-train-barn", None)
    held(world, *world.devices)
    world.settle()

    found = world.show(1)
    assert (found["state"], found["per_device"]["barn"]["tail"]) == ("complete", "tail-2")
    assert "r1-train-barn.tail" in world.devices["tail-1"].cancelled


def test_a_lone_tail_is_tried_again_but_not_for_ever(world: World) -> None:
    """Where there is no other one, a board that lost its tail is asked again with it, four times."""
    barn = world.devices["barn"]
    held(world, "coop", "mill", "tail-1")
    world.devices["tail-1"].jobs_held = True
    world.ask("open", kind="train")
    for turn in range(1, 7):
        world.network.pump()
        name = f"r1{'' if turn == 1 else f'.{turn}'}-train-barn"
        barn.say(Failed(barn.sender(), name, "it hung up", "tail-1"))
    world.network.pump()

    seat = world.show(1)["per_device"]["barn"]
    assert (seat["state"], seat["moved"]) == ("failed", 5)
    assert seat["reason"] == "no tail is left for it: barn says: it hung up"


def test_a_tail_that_fails_for_one_board_keeps_the_others(world: World) -> None:
    """A tail's failure is about the board that its job names."""
    put_tail(world, "tail-2")
    held(world)
    world.ask("open", kind="train", devices=["barn"])
    tail = world.devices["tail-1"]
    world.network.pump()
    tail.say(Failed(tail.sender(), "r1-train-barn.tail", "no room"))
    tail.waiting.clear()
    held(world, *world.devices)
    world.settle()

    assert world.show(1)["state"] == "complete"
    assert world.show(1)["per_device"]["barn"]["tail"] == "tail-2"


def test_a_tail_that_blames_its_board_is_heard_after_it(world: World) -> None:
    """The board's own reason counts; where it says nothing, what the tail says when it is asked again does."""
    put_tail(world, "tail-2")
    held(world)
    world.ask("open", kind="train", devices=["barn", "coop"])
    world.network.pump()
    barn, one, two = (world.devices[n] for n in ("barn", "tail-1", "tail-2"))
    one.say(Failed(one.sender(), "r1-train-barn.tail", "barn hung up", "barn"))
    two.say(Failed(two.sender(), "r1-train-coop.tail", "coop hung up", "coop"))
    world.network.pump()
    barn.say(Failed(barn.sender(), "r1-train-barn", "no memory"))
    two.say(Failed(two.sender(), "r1-train-coop.tail", "coop hung up"))
    world.network.pump()

    seats = world.show(1)["per_device"]
    assert (seats["barn"]["state"], seats["barn"]["reason"]) == ("failed", "no memory")
    assert (seats["coop"]["state"], seats["coop"]["tail"]) == ("waiting", "tail-1")


def test_a_half_from_a_stale_version_is_refused_and_waited_for_no_more(world: World) -> None:
    """A board that started from another version is refused with words, and the round goes on without it at once."""
    world.run("train")
    first = world.hub.home.ledger.versions("tiny")[0]["digest"]
    held(world, "coop", "mill", "tail-1")
    number, barn = world.ask("open", kind="train")["round"], world.devices["barn"]
    world.network.pump()
    job = barn.waiting.pop(f"r{number}-train-barn")
    barn.publish(type(job)(**{**vars(job), "versions": (first,)}))
    world.settle(3)

    found = world.show(number)
    assert found["state"] == "complete"
    assert found["per_device"]["barn"]["state"] == "failed"
    assert "expected an update that started from version" in found["per_device"]["barn"]["reason"]
    assert barn.receipts[-1].status == "refused"


def test_a_link_that_is_slower_than_planned_is_named(world: World, tmp_path: Path) -> None:
    """The round says which board waited for its link, how long beside its plan, and what to do; not of the others."""
    put_front(world, tmp_path / "planned", ("barn", "coop"), planned=PLANNED)
    for name, link_s in (("barn", 2.5), ("coop", 0.5)):
        world.devices[name].metrics = {"loss": 0.5, "link_seconds_per_step": link_s, "seconds_per_step": 3.0}

    found = world.run("train")
    assert found["state"] == "complete"
    assert (
        "barn: its link takes 2.5 s of a step, planned were 400 ms: open rounds with --split-mode"
        in (found["sentence"])
    )
    assert "coop" not in found["sentence"]


@pytest.mark.parametrize(("deadline", "words"), [(100.0, "slower than planned: open rounds with"), (12.0, "give more")])
def test_a_front_that_is_late_is_left_out_with_the_time_of_its_plan(
    world: World, tmp_path: Path, deadline: float, words: str
) -> None:
    """At the deadline the round goes on without it, and says whether the link or the deadline is not as planned."""
    put_front(world, tmp_path / "planned", ("barn", "coop"), planned=PLANNED)
    held(world, "coop", "mill", "tail-1")
    number = world.ask("open", kind="train", settings={"steps": 20}, deadline_s=deadline)["round"]
    world.settle()

    found = world.show(number)
    assert found["state"] == "complete"
    assert found["per_device"]["barn"]["state"] == "late"
    said = f"the deadline passed; its plan has 20 s for 20 steps, the round had {deadline:.3g} s: "
    assert found["per_device"]["barn"]["reason"].startswith(said)
    assert words in found["per_device"]["barn"]["reason"]
    assert f"barn: {said}" in found["sentence"]
    assert "coop" not in found["sentence"]


def test_a_half_counts_once_however_often_it_comes(world: World) -> None:
    """A tail that sends its half again gets the same answer, and one row is in the journal."""
    held(world, "barn", "coop", "tail-1")
    world.ask("open", kind="train")
    world.settle(2)
    tail = world.devices["tail-1"]
    for update in [u for u, sent in tail.sent.items() if sent.begin.kind == "tail"]:
        tail.outbox[update] = tail.sent[update]
        tail.send(update, ())
    world.network.pump()

    rows = world.hub.home.ledger.updates(1, "tail")
    assert [row["device"] for row in rows] == ["barn", "coop"]
    assert [r.status for r in tail.receipts] == ["accepted", "accepted", "duplicate", "duplicate"]


def test_the_front_does_not_bring_the_tails_slots(world: World) -> None:
    """A board that brings slots behind its border is refused: those are the tail's."""
    world.devices["barn"].holds = None
    number = world.ask("open", kind="train")["round"]
    world.settle(4)

    why = world.show(number)["per_device"]["barn"]["reason"]
    assert "slot layer.1.value is not one of those that were asked of it" in why


def test_what_a_round_of_fronts_cannot_be(world: World, tmp_path: Path) -> None:
    """Nobody for the tails, a round for whole boards, options without fronts, words that do not exist."""
    cases: list[tuple[str, dict[str, Any]]] = [
        ("expected boards that hold the whole model in such a round", {"devices": ["barn"], "mode": "buffered"}),
        ("without --prune-gamma", {"devices": ["barn"], "settings": {"prune_gamma": 0.9, "prune_lambda": 0.1}}),
        ("expected boards with the front of a model for coding", {"devices": ["mill"], "split": {"coding": "int8"}}),
        ("coding: int8, float16, float32; .* found coding int4", {"split": {"coding": "int4"}}),
    ]
    for words, request in cases:
        with pytest.raises(UsageError, match=words):
            world.ask("open", kind="train", **request)
    leave(world, "tail-1")
    with pytest.raises(HubError, match="expected tails for barn, coop, found none: no device that has tails"):
        world.ask("open", kind="train", devices=["barn", "coop"])
    found = world.run("train")
    assert found["state"] == "complete"  # mill alone: the quorum is of those that were asked
    assert found["per_device"]["barn"]["reason"].startswith("no device that has tails is online")


def test_a_killed_hub_goes_on_with_halves(world: World, unsplit: dict[str, Any]) -> None:
    """A hub that is killed between the halves of an update waits for the other one, and makes the same version."""
    held(world, "barn", "mill")
    world.ask("open", kind="train")
    world.settle(2)
    world.hub = world.start_hub()
    held(world, *world.devices)
    world.settle()

    assert world.show(1)["state"] == "complete"
    assert same(ladder(world), unsplit)


def test_several_versions_each_with_halves(world: World) -> None:
    """A round of three laps gives each board a tail in each, and counts both halves of each."""
    found = world.run("train", laps=3)

    assert (found["state"], found["lap"]) == ("complete", 3)
    rows = [(u["lap"], u["device"], u["kind"]) for u in found["updates"]]
    assert rows == [
        (lap, *who)
        for lap in range(3)
        for who in [("barn", "adapter"), ("barn", "tail"), ("coop", "adapter"), ("coop", "tail"), ("mill", "adapter")]
    ]


def test_tails_may_be_shut_out(world: World, unsplit: dict[str, Any]) -> None:
    """A tail in quarantine has no boards any more; they go on with another at once."""
    put_tail(world, "tail-2")
    held(world, "mill")
    world.ask("open", kind="train")
    world.settle(1)
    world.ask("quarantine", device="tail-1", reason="it is being repaired")
    held(world, *world.devices)
    world.settle()

    found = world.show(1)
    assert found["state"] == "complete"
    assert {found["per_device"][n]["tail"] for n in ("barn", "coop")} == {"tail-2"}
    assert same(ladder(world), unsplit)


def test_fronts_get_tails_of_their_own_export(world: World, tmp_path: Path) -> None:
    """Halves of two exports do not meet: a front gets a tail of its own, or none, and the reason says so."""
    made, files = manifest(device="server")
    told = replace(made, split=split("tail", "second"))
    sha = world.ask("add", folder=str(write_bundle(tmp_path / "whole", world.publisher, told, files)))["bundle"]
    put_front(world, tmp_path / "other", ("coop",), export="second")
    put_front(world, tmp_path / "third", ("mill",), export="third")
    put_tail(world, "tail-9", sha)

    found = world.run("train")["per_device"]

    assert {name: found[name].get("tail") for name in RANKS} == {"barn": "tail-1", "coop": "tail-9", "mill": ""}
    assert "the tails that are online are of another export" in found["mill"]["reason"]
    assert (found["barn"]["state"], found["coop"]["state"]) == ("arrived", "arrived")


def test_the_whole_model_comes_first(world: World, tmp_path: Path) -> None:
    """A hub that knows nothing of a model does not begin it with a front of it."""
    made, files = front_of(export="first")
    other = replace(made, model=replace(made.model, id="other"))
    with pytest.raises(HubError, match="as its first bundle, found in .* front of it; add the .* as server"):
        world.ask("add", folder=str(write_bundle(tmp_path / "alone", world.publisher, other, files)))


def test_a_tail_without_rows_is_not_asked_to_learn(world: World) -> None:
    """An agent with the whole model and no data has tails, and is not one of the boards; with rows it is both."""
    tail = world.devices["tail-1"]
    tail.jobs, tail.classes = ("train", "statistics", "evaluate", "tail"), tail.classes[:0]
    tail.hello()
    world.network.pump()
    assert set(world.run("train")["per_device"]) == set(RANKS)
    tail.classes = world.devices["barn"].classes
    tail.hello()
    world.network.pump()
    assert set(world.ask("open", kind="train")["per_device"]) == {*RANKS, "tail-1"}


def test_a_board_that_trains_some_of_its_slots_brings_those(make_world: MakeWorld, tmp_path: Path) -> None:
    """Of a bundle whose plan has ranks for some slots, those make an update; without such ranks, all of them do."""
    some = {"layer.0.query": 2}
    for plans, status in ((some, "accepted"), ({}, "refused")):
        world = make_world()
        made, files = manifest(SLOTS, device="planned")
        made = replace(made, plan=replace(made.plan, ranks=plans))
        sha = world.ask("add", folder=str(write_bundle(tmp_path / status, world.publisher, made, files)))["bundle"]
        barn = world.devices["barn"]
        barn.holds, barn.bundle = frozenset(some), sha
        barn.hello()
        world.network.pump()
        world.ask("open", kind="train")
        world.settle(4)
        assert {receipt.status for receipt in barn.receipts} == {status}
