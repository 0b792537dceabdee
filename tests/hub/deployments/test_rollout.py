"""Trials on a few devices, over the network, past kills: promoted, taken back, superseded; and who hears of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from console.errors import HubError
from hub.making import versions
from hub.show import status as show_status
from hub.show import versions as show_versions
from hub.store.writes import put_device
from tests.faults import instants, set_fire
from tests.fuse import Fuse, Killed
from tests.hub.world import World
from wire.memory import MemoryTransport
from wire.messages import Version

MakeWorld = Callable[..., World]


def grown(world: World, *, spoilt: bool = False) -> World:
    """Version 1 is in use; version 2 has a head of its own, right or wrong, and was never released."""
    world.run("statistics")
    for device in world.devices.values():
        device.mislabel = spoilt
    world.run("statistics", gate=False)
    for device in world.devices.values():
        device.mislabel = False
    return world


def served(world: World) -> dict[str, int]:
    """The version that each device serves."""
    return {name: d.release.version for name, d in world.devices.items() if d.release is not None}


def flow(world: World, rounds: int = 12) -> None:
    """Let messages and time flow, whether a round is open or not."""
    for _ in range(rounds):
        world.network.pump()
        world.now_s += 1
        world.hub.tick()
        for device in world.devices.values():
            device.work()
            device.retry()
    world.network.pump()


def deployment(world: World, number: int = 1) -> dict[str, Any]:
    """Everything about a deployment."""
    return world.ask("deployment", deployment=number)


def test_a_good_version_goes_from_the_canary_to_all(make_world: MakeWorld) -> None:
    """Only the canary serves a trial; after its evaluation, not worse, all serve it, and the ledger says so."""
    world = grown(make_world())
    world.devices["barn"].jobs_held = True
    world.ask("deploy", version="2", group="barn")
    flow(world, 4)

    assert served(world) == {"barn": 2, "coop": 1, "mill": 1}
    assert deployment(world)["state"] == "trying"
    assert world.ask("status")["released"]["version"] == 1
    world.devices["barn"].jobs_held = False
    flow(world)

    found = deployment(world)
    assert (found["state"], found["boards"], found["round"]) == ("promoted", {"barn": "serving"}, 3)
    assert "1 of 1 boards serve it; macro accuracy" in found["sentence"]
    assert served(world) == {"barn": 2, "coop": 2, "mill": 2}
    assert [d.release.sequence for d in world.devices.values() if d.release is not None] == [3, 3, 3]
    view = world.ask("version", version="2")
    assert [(r["sequence"], r["group"]) for r in view["releases"]] == [(2, "barn"), (3, "")]
    assert view["served_by"] == ["barn"]  # the others have not said hello since


def test_a_worse_version_is_taken_back(make_world: MakeWorld) -> None:
    """A trial that the canary finds worse ends with the old version on every device, and work leaves it."""
    world = grown(make_world(), spoilt=True)
    assert world.ask("status")["tip"]["version"] == 2
    world.ask("deploy", version="2", group="coop,mill")
    flow(world)

    found = deployment(world)
    assert found["state"] == "rolled back"
    assert "worse beyond the noise" in found["sentence"]
    assert served(world) == {"barn": 1, "coop": 1, "mill": 1}
    assert world.ask("status")["tip"]["version"] == 1


def test_a_trial_against_an_older_version(make_world: MakeWorld) -> None:
    """Compared with a version that is not in use, a trial that fails still leaves in use what was."""
    world = make_world()
    world.run("statistics")
    world.run("statistics")
    for device in world.devices.values():
        device.mislabel = True
    world.run("statistics", gate=False)
    world.ask("deploy", version="3", group="barn", against="1")
    flow(world)

    found = deployment(world)
    assert (found["state"], found["against"]) == ("rolled back", 1)
    assert set(served(world).values()) == {2}
    assert {s["version"] for s in found["scores"]["barn"]} == {1, 3}


def test_promotion_by_hand_waits(make_world: MakeWorld) -> None:
    """With manual promotion a good trial waits; promote releases it to all, rollback takes it back."""
    for request, state, version in (("promote", "promoted", 2), ("rollback", "rolled back", 1)):
        world = grown(make_world())
        world.ask("deploy", version="2", group="barn", promote="manual")
        flow(world)
        assert deployment(world)["state"] == "waiting"
        assert served(world) == {"barn": 2, "coop": 1, "mill": 1}

        assert world.ask(request)["state"] == state
        flow(world, 3)
        assert set(served(world).values()) == {version}


def test_the_agent_beside_the_hub_judges_too(make_world: MakeWorld) -> None:
    """An agent of profile server is asked to evaluate a trial that it does not serve; other devices are not."""
    world = grown(make_world())
    mill = world.devices["mill"]
    mill.profile, mill.jobs = "server", ("evaluate",)
    mill.hello()
    world.ask("deploy", version="2", group="barn")
    flow(world)

    assert set(deployment(world)["scores"]) == {"barn", "mill"}
    assert deployment(world)["state"] == "promoted"


def test_an_older_agent_is_no_canary(make_world: MakeWorld) -> None:
    """An agent that does not know trials keeps what is released, and its trial ends at the deadline with words."""
    world = grown(make_world())
    world.devices["barn"].knows_trials = False
    world.ask("deploy", version="2", group="barn")
    flow(world, 4)
    assert served(world)["barn"] == 1
    world.now_s += 3600
    flow(world, 2)

    found = deployment(world)
    assert (found["state"], found["sentence"]) == ("rolled back", "none of 1 boards came to serve it")


def test_a_canary_that_comes_late_hears_of_its_trial(make_world: MakeWorld) -> None:
    """A canary that was offline gets the trial at its hello, and the old version if the trial is over by then."""
    world = grown(make_world())
    transport = world.devices["barn"].transport
    assert isinstance(transport, MemoryTransport)
    transport.drop()
    world.ask("deploy", version="2", group="barn,coop", promote="manual")
    flow(world, 3)
    assert served(world) == {"barn": 1, "coop": 2, "mill": 1}
    transport.restore()
    flow(world)
    assert served(world) == {"barn": 2, "coop": 2, "mill": 1}

    transport.drop()
    world.ask("rollback")
    flow(world, 2)
    assert served(world) == {"barn": 2, "coop": 1, "mill": 1}
    transport.restore()
    flow(world, 2)
    assert served(world) == {"barn": 1, "coop": 1, "mill": 1}


def test_people_read_of_a_trial(make_world: MakeWorld) -> None:
    """Status, the lists and the pages of a version and of a deployment name what is tried where, and what to do."""
    world = grown(make_world())
    world.ask("deploy", version="2", group="barn", promote="manual")
    flow(world)

    assert "released version 1, on trial version 2 on barn (waiting)" in show_status.status_text(world.ask("status"))
    page = show_versions.deployment_text(deployment(world))
    assert "deployment 1: version 2 against 1 on barn: waiting" in page
    assert "`edgequilt hub promote` releases it to all" in page
    assert "1/1" in show_versions.deployments_text(world.ask("deployments")["deployments"])
    text = show_versions.version_text(world.ask("version", version="2"))
    assert "served by barn" in text
    assert "11 rows that boards kept back" in text  # what its deployment found
    assert "in use" in show_versions.versions_text(world.ask("versions")["versions"])
    world.ask("promote")
    assert world.ask("status")["trial"] is None


def test_a_group_is_one_that_people_made(make_world: MakeWorld) -> None:
    """A group's devices are those that carry its name; devices of another model do not belong."""
    world = grown(make_world())
    with world.hub.home.ledger.transaction() as tx:
        for name in ("coop", "mill"):
            put_device(tx, name, groups=["canary"])
        put_device(tx, "mill", model="other")
    world.ask("deploy", version="2", group="canary")

    assert set(deployment(world)["boards"]) == {"coop"}
    with pytest.raises(HubError, match="names of enrolled devices with tiny, found mill"):
        world.ask("deploy", version="2", group="mill")


def test_another_release_ends_a_trial(make_world: MakeWorld) -> None:
    """When a round releases another version to all, a trial is over: the canary serves that version too."""
    world = grown(make_world())
    world.ask("deploy", version="2", group="barn", promote="manual")
    flow(world)
    world.run("statistics")
    flow(world, 2)

    found = deployment(world)
    assert found["state"] == "superseded"
    assert "version 3 was released to all (round 4)" in found["sentence"]
    assert set(served(world).values()) == {3}


def test_rollback_goes_back_one_by_one(make_world: MakeWorld) -> None:
    """Each rollback goes to what was in use before, not forth to what was taken back; at the first one it says so."""
    world = make_world()
    for _ in range(3):
        world.run("statistics")
    assert world.ask("status")["released"]["version"] == 3

    for version in (2, 1):
        assert world.ask("rollback")["version"] == version
        assert world.ask("status")["tip"]["version"] == version
    with pytest.raises(HubError, match="expected a version that was in use before, found none; name one"):
        world.ask("rollback")
    world.ask("deploy", version="3")
    assert world.ask("rollback")["version"] == 1


def test_work_goes_on_past_a_deployment(make_world: MakeWorld) -> None:
    """Deploying a version that the tip came from leaves the tip; another one becomes the tip."""
    world = make_world()
    for kind in ("statistics", "train", "statistics"):
        world.run(kind, gate=False) if world.hub.home.ledger.last_round() else world.run(kind)
    world.ask("deploy", version="2")
    assert world.ask("status")["tip"]["version"] == 3
    world.ask("rollback", version="1")
    world.ask("deploy", version="3")
    assert world.ask("status")["tip"]["version"] == 3


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a stranger": (
        {"version": "2", "group": "farm"},
        "expected a group or names of enrolled devices with tiny, found farm",
    ),
    "against itself": ({"version": "2", "group": "barn", "against": "2"}, "expected a version other than the one"),
    "in use": ({"version": "1", "group": "barn", "against": "2"}, "expected another version in use, found this very"),
    "no such version": (
        {"version": "9", "group": "barn"},
        "expected a version among 0, 1, 2, tip, released, found '9'",
    ),
    "no head": ({"version": "0"}, "expected a version with a head, found that version 0 has none"),
    "two at once": ({"version": "2", "group": "coop"}, "expected no open deployment, found number 1"),
}


def test_what_cannot_be_deployed_is_said(make_world: MakeWorld) -> None:
    """Strange groups and versions are refused with words, and so are decisions where nothing is open."""
    world = grown(make_world())
    with pytest.raises(HubError, match="expected an open deployment, found none"):
        world.ask("promote")
    for name, (request, words) in REFUSED.items():
        if name == "two at once":
            world.ask("deploy", version="2", group="barn", promote="manual")
        with pytest.raises(HubError, match=words):
            world.ask("deploy", **request)
    assert [line["deployment"] for line in world.ask("deployments")["deployments"]] == [1]


def test_a_version_says_where_it_came_from(make_world: MakeWorld) -> None:
    """Parents, round, participants with samples and shares, notes and tails of a version are in its view."""
    world = make_world()
    for kind in ("statistics", "train"):
        world.run(kind)

    found = world.ask("version", version="2")
    line = world.ask("versions")["versions"][2]
    samples = {name: len(device.classes) for name, device in world.devices.items()}
    assert (found["parents"], found["round"], found["has_head"]) == ([1], 2, True)
    assert {p["device"]: p["samples"] for p in found["participants"]} == samples
    assert sum(p["share"] for p in found["participants"]) == pytest.approx(1)
    assert set(found["tails"]["slots"]) == {"layer.0.query", "layer.1.value"}
    assert (line["tip"], line["in_use"], line["devices"]) == (True, False, 3)
    assert world.ask("version", version="1")["notes"] == ["head by nearest"]


def story(world: World, fuse: Fuse | None) -> int:
    """A trial from its opening to its promotion; a kill is followed by a new hub on the same folder."""
    if fuse is not None:
        set_fire(world.hub, fuse)

    def live() -> int:
        try:
            if world.hub.home.ledger.last_deployment() == 0:
                world.ask("deploy", version="2", group="barn,coop")
            flow(world, 8)
        except Killed:
            world.hub = world.start_hub()
            return 1
        return 0

    return sum(live() for _ in range(3))


@pytest.mark.parametrize(
    ("first", "step"), [(1, 7), pytest.param(1, 1, marks=pytest.mark.heavy)], ids=["some instants", "end to end"]
)
def test_a_kill_at_any_instant_ends_alike(make_world: MakeWorld, backend: str, first: int, step: int) -> None:
    """Killed before and after each write of a deployment in turn, a hub ends with one promotion of the same version."""
    kills = 1
    for instant in instants(first, step, backend):
        world = grown(make_world())
        kills = story(world, Fuse(instant))
        found = deployment(world)
        assert (found["state"], served(world)) == ("promoted", dict.fromkeys(world.devices, 2)), f"instant {instant}"
        releases = world.hub.home.ledger.releases("tiny")
        assert [(r["version"], r["group"]) for r in releases] == [(1, ""), (2, "barn,coop"), (2, "")]
        assert world.hub.home.ledger.last_round() == 3
        if kills == 0:
            break
    assert instant > 10  # so many writes there are in the story


def test_a_trial_on_a_bad_network(make_world: MakeWorld) -> None:
    """Lost, repeated and reordered messages change nothing about how a trial ends."""
    world = grown(make_world(seed=3, lose=0.2, repeat=0.2, reorder=0.5))
    world.ask("deploy", version="2", group="barn,coop")
    for _ in range(8):
        flow(world, 10)
        for device in world.devices.values():
            device.hello()

    assert deployment(world)["state"] == "promoted"
    assert set(served(world).values()) == {2}


def test_versions_say_their_digest(make_world: MakeWorld) -> None:
    """The digest that is shown is that of the version's body, and its blobs are those that devices fetch."""
    world = grown(make_world())
    found = world.ask("version", version="tip")
    row = world.hub.home.ledger.version(found["digest"])
    assert row is not None
    made: Version = versions.read_made(row).version
    assert found["blobs"] == sorted(versions.blob_names(made))
