"""Releases that an install puts on a board: their trial is judged as that of the hub's, and is not mixed up with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.slots import launch
from edge.slots.record import TRIAL, Record
from edge.slots.slots import Slots
from edge.slots.trial import Limits
from edge.slots.updates import Updates
from wire.messages import Program

FIRST, SECOND, THIRD = "0.1.0+aaaaaaaa", "0.2.0+bbbbbbbb", "0.3.0+cccccccc"


class Ways:
    """A board without a bundle, where nothing is computed or fetched."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **more: name == "idle"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A board with two releases, the second on trial since it was installed (devices.install.board writes it so)."""
    (tmp_path / "state").mkdir()
    for name in (FIRST, SECOND):
        release(tmp_path, name)
    put(tmp_path, SECOND, FIRST)
    return tmp_path


def release(home: Path, name: str) -> None:
    """A release that lies there."""
    (home / "releases" / name / "lib").mkdir(parents=True)
    (home / "releases" / name / "release.json").write_text("{}")


def put(home: Path, name: str, before: str) -> None:
    """What an install does last."""
    launch.switch(home, name)
    launch.write(home / launch.TRIAL, {"release": name, "before": before, "starts": 0})


def start(home: Path, *, healthy: bool) -> None:
    """One start by the launcher, and an agent that lives for an hour, or ends at once."""
    launch.settle(home)
    now = [0.0]
    ways: Any = Ways()
    updates = Updates(Slots(home), Record(home / "state"), ways, home / "agent.toml", lambda: now[0], limits=Limits())
    updates.start()
    if healthy:
        updates.connected(True)
        updates.heard()
        for now[0] in range(0, 3600, 10):
            updates.look()


def test_an_installed_release_that_is_healthy_stays(home: Path) -> None:
    """Its trial ends at the first start in which it is; later starts lead nowhere."""
    start(home, healthy=True)
    assert launch.read(home) is None
    for _ in range(5):
        start(home, healthy=False)
    assert launch.linked(home) == SECOND


def test_an_installed_release_that_is_not_healthy_goes(home: Path) -> None:
    """The fourth start is that of the release before."""
    for _ in range(4):
        start(home, healthy=False)
    assert launch.linked(home) == FIRST


def test_who_installs_during_an_update_has_the_last_word(home: Path) -> None:
    """What the hub had on trial is given up; the third release starts, and its own trial goes on."""
    record = Record(home / "state")
    record.follow(Program("d", 1, "f" * 64))
    record.note(state=TRIAL, version=SECOND, before=FIRST)
    release(home, THIRD)
    put(home, THIRD, SECOND)
    start(home, healthy=False)
    assert launch.linked(home) == THIRD
    assert launch.read(home) == {"release": THIRD, "before": SECOND, "starts": 1}
    assert Record(home / "state").kept.state == ""
    start(home, healthy=True)
    assert (launch.linked(home), launch.read(home)) == (THIRD, None)
