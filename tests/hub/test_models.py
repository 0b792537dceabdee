"""Several models in one fleet: each with versions, rounds and releases of its own, and the devices that serve it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from console.errors import HubError
from tests.hub.bundles import LABELS, manifest, write_bundle
from tests.hub.serving.test_service import counted_once
from tests.hub.world import RANKS, World
from wire import messages as m
from wire.keys import new_key
from wire.topics import topic_of

MakeWorld = Callable[..., World]
OTHER = {"encoder.key": (4, 12)}
OTHERS = ("kid", "lamb")


def second(world: World, folder: Path) -> None:
    """A bundle of another model, and two devices that serve it."""
    world.ask("add", folder=str(write_bundle(folder / "second", world.publisher, *manifest(OTHER, model="other"))))
    for index, name in enumerate(OTHERS):
        key = new_key("device", name)
        world.ask("enroll", name=name, line=key.public.line)
        world.devices[name] = world.make_device(name, key, 8, index, "other")
        world.devices[name].start()
    world.network.pump()


@pytest.fixture
def world(make_world: MakeWorld, tmp_path: Path) -> World:
    """A hub of two models."""
    made = make_world()
    second(made, tmp_path)
    return made


def test_two_models_learn_at_the_same_time(world: World) -> None:
    """Rounds of both are open at once; each makes the next version of its own model from its own devices."""
    for kind in ("statistics", "train"):
        first = world.ask("open", kind=kind, model="tiny")["round"]
        other = world.ask("open", kind=kind, model="other")["round"]
        assert world.hub.open_rounds == [first, other]
        world.settle()
        assert set(world.show(first)["per_device"]) == set(RANKS)
        assert set(world.show(other)["per_device"]) == set(OTHERS)
        assert [world.show(n)["state"] for n in (first, other)] == ["complete", "complete"]

    ledger = world.hub.home.ledger
    assert [(v["model"], v["number"]) for v in ledger.versions()] == [
        (model, number) for model in ("other", "tiny") for number in range(3)
    ]
    assert {d.release.model for n, d in world.devices.items() if d.release is not None and n in OTHERS} == {"other"}
    found = {m["model"]: (m["tip"]["version"], m["released"]["version"]) for m in world.ask("status")["models"]}
    assert found == {"other": (2, 1), "tiny": (2, 1)}
    counted_once(world)


def test_two_models_give_what_one_alone_gives(world: World, make_world: MakeWorld) -> None:
    """What is learnt of a model does not depend on the other one: the same versions, to the byte."""
    alone = make_world()
    alone.run("train")
    world.run("train", model="tiny")

    made = [w.hub.home.ledger.versions("tiny")[1]["digest"] for w in (alone, world)]
    assert made[0] == made[1]


def test_a_request_names_its_model(world: World) -> None:
    """Where there are several models, a request must say which; the answer names them."""
    for request in ({"kind": "train"}, {"kind": "train", "model": "third"}):
        with pytest.raises(HubError, match="expected a model among other, tiny, found .*; name one with --model"):
            world.ask("open", **request)
    with pytest.raises(HubError, match="expected enrolled devices of model other, found barn"):
        world.ask("open", kind="train", model="other", devices=["barn"])
    number = world.ask("open", kind="train", model="other")["round"]
    assert world.ask("stop", round=number)["model"] == "other"  # a round says by itself
    assert [r["round"] for r in world.ask("list", model="tiny")["rounds"]] == []


def test_both_go_on_after_a_restart(world: World) -> None:
    """A hub that was killed with a round of each model under way completes both."""
    for device in world.devices.values():
        device.jobs_held = True
    rounds = [world.ask("open", kind="train", model=model)["round"] for model in ("tiny", "other")]
    world.network.pump()

    world.hub = world.start_hub()
    for device in world.devices.values():
        device.jobs_held = False
    world.settle()

    assert [world.show(number)["state"] for number in rounds] == ["complete", "complete"]
    counted_once(world)


def test_a_device_moves_to_another_model(world: World) -> None:
    """A device belongs to the model that it says hello with, from its next hello on."""
    barn = world.devices["barn"]
    moved = world.make_device("barn", barn.key, 4, 0, "other")
    moved.transport, moved.boot = barn.transport, "boot-2"
    moved.start()
    world.network.pump()
    world.devices["barn"] = moved

    found = world.run("train", model="other")

    assert set(found["per_device"]) == {"barn", *OTHERS}
    assert found["state"] == "complete"


def test_an_update_on_the_topic_of_another_model_does_not_count(world: World) -> None:
    """A device that answers a round of its model as one of the other is refused with words, and counted nowhere."""
    barn = world.devices["barn"]
    barn.jobs_held = True
    number = world.ask("open", kind="train", model="tiny", devices=["barn"])["round"]
    world.network.pump()
    barn.model = "other"
    barn.transport.subscribe(topic_of("farm", "other", "down", m.Receipt.TYPE, "barn"))
    barn.publish(barn.seen[f"r{number}-train-barn"])

    world.network.pump()

    assert "expected an update of a round of this hub" in barn.receipts[-1].reason
    assert world.hub.home.ledger.updates(number) == []


def test_a_bundle_of_a_known_model_must_promise_the_same(world: World, tmp_path: Path) -> None:
    """Other labels under a known model's name are refused; the hub goes on as it was."""
    odd = manifest(OTHER, labels=LABELS[:2], model="other")
    with pytest.raises(HubError, match="expected a bundle with the labels of the model other"):
        world.ask("add", folder=str(write_bundle(tmp_path / "odd", world.publisher, *odd)))
    assert list(world.hub.desks) == ["tiny", "other"]
