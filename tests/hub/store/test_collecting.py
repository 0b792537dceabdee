"""What a hub lets go, and what it never does: the blobs of versions, of open rounds, of updates that are kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hub.making import versions
from hub.store.backup import back_up
from hub.store.collecting import DAY_S, of_versions
from tests.faults import instants, survive
from tests.fuse import Fuse
from tests.hub.world import RANKS, World

MakeWorld = Callable[..., World]


def keep(world: World, days: float = 0.0, rounds: int = 0) -> None:
    """What hub.toml says of retention, from now on."""
    config = world.hub.home.config
    told = replace(config.retention, updates_days=days, updates_rounds=rounds)
    world.hub.home.config = replace(config, retention=told)


def there(world: World, kind: str) -> list[int]:
    """The rounds whose updates of a kind have their files."""
    home = world.hub.home
    rows = [row for row in home.ledger.all_updates() if row["kind"] == kind]
    return sorted({row["round"] for row in rows if home.blobs.path(row["digest"]).exists()})


def test_updates_go_by_rounds_and_by_days(make_world: MakeWorld) -> None:
    """What was sent is let go after as many rounds, or days, as hub.toml says; the versions are whole afterwards."""
    world = make_world()
    for kind in ("statistics", "train", "statistics", "train"):
        world.run(kind)
    keep(world, rounds=2)

    told = world.ask("collect", dry_run=True)
    assert (told["updates"], there(world, "adapter"), there(world, "statistics")) == (6, [2, 4], [1, 3])
    assert world.ask("collect") == {**told, "dry_run": False}
    assert (there(world, "adapter"), there(world, "statistics"), there(world, "scores")) == ([4], [3], [3])
    assert world.ask("collect")["blobs"] == 0

    keep(world, days=1.0)
    world.now_s += DAY_S + 1000
    world.hub.tick()  # by itself, at a tick
    assert (there(world, "adapter"), there(world, "statistics"), there(world, "scores")) == ([], [], [3])
    for row in world.hub.home.ledger.versions():
        versions.read_ladder(versions.read_made(row).version, world.hub.home.blobs)
    assert world.run("train")["state"] == "complete"
    assert world.show(3)["scores"]["barn"]


def test_an_open_round_keeps_what_it_has(make_world: MakeWorld) -> None:
    """However old, updates of a round that is still open stay, and it makes its version of them."""
    world = make_world()
    world.run("statistics")
    keep(world, days=0.001)
    world.devices["mill"].jobs_held = True
    world.ask("open", kind="train", deadline_s=10 * DAY_S)
    world.network.pump()
    world.now_s += DAY_S

    world.ask("collect")

    assert (there(world, "adapter"), there(world, "statistics")) == ([2], [])
    world.devices["mill"].jobs_held = False
    world.settle()
    assert world.show(2)["state"] == "complete"


def test_files_that_nothing_names_go_after_a_day(make_world: MakeWorld) -> None:
    """A file that a kill left goes when it is a day old; one of today stays, and so does what versions name."""
    world = make_world()
    world.run("statistics")
    home = world.hub.home
    old, new = home.blobs.put(b"left behind"), home.blobs.put(b"on its way")
    os.utime(home.blobs.path(old), (0, 0))
    for name in of_versions(home):
        os.utime(home.blobs.path(name), (0, 0))

    world.ask("collect")

    assert not home.blobs.path(old).exists()
    assert home.blobs.path(new).exists()
    assert all(home.blobs.path(name).exists() for name in of_versions(home))


def test_a_backup_does_without_what_was_let_go(make_world: MakeWorld, tmp_path: Path) -> None:
    """A hub that let updates go is backed up whole; what is missing by mistake would still be found."""
    world = make_world()
    world.run("statistics")
    world.run("train")
    keep(world, rounds=1)
    world.ask("collect")

    assert back_up(world.folder, tmp_path / "backup.tar", keys=False)["files"] > 3


def story(world: World) -> None:
    """Three rounds, after each of which everything goes that may."""
    keep(world, rounds=1)
    for number, kind in enumerate(("statistics", "train", "statistics"), start=1):
        if world.hub.home.ledger.last_round() < number:
            world.ask("open", kind=kind, devices=sorted(RANKS))
        world.settle()
        world.ask("collect")


@pytest.mark.parametrize(
    ("first", "step"), [(9, 97), pytest.param(1, 3, marks=pytest.mark.heavy)], ids=["some instants", "every third"]
)
def test_a_kill_at_any_instant_loses_nothing_that_is_named(make_world: MakeWorld, first: int, step: int) -> None:
    """Killed before and after each write and each deletion, a hub ends with the same versions and the same files."""
    calm = make_world()
    survive(calm, None, story)
    wanted = [row["digest"] for row in calm.hub.home.ledger.versions()]

    for instant in instants(first, step):
        world = make_world()
        kills = survive(world, Fuse(instant), story)
        home = world.hub.home
        assert [row["digest"] for row in home.ledger.versions()] == wanted, f"after a kill at instant {instant}"
        needed = of_versions(home) | {r["digest"] for r in home.ledger.all_updates() if r["dropped_at_s"] is None}
        assert all(home.blobs.path(name).exists() for name in needed)
        assert there(world, "adapter") == []
        if kills == 0:
            break
    assert instant > 60
