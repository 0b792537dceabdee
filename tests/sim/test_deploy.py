"""A trial over a real broker with real agents: hub and agents in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.serving.control import ask
from sim.fleet import SERVER, Fleet
from sim.processes import Processes
from tests.edge.boards import write_data
from tests.edge.bundles import make_bundle
from wire.keys import write_key

pytestmark = pytest.mark.heavy
LIMIT_S = 60.0
BOARDS = ("barn", "coop")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A hub and two boards that run; version 1 is in use, version 2 is not released."""
    _, public = write_key(make_bundle(tmp_path / "bundle", kind="text"), tmp_path)
    write_data(tmp_path / "data.jsonl")
    processes = Processes(tmp_path / "logs")
    with processes:
        made = Fleet(tmp_path / "fleet", public, processes)
        made.prepare()
        made.start(
            {name: made.join(name, tmp_path / "bundle", tmp_path / "data.jsonl", 0.25) for name in (*BOARDS, SERVER)}
        )
        made.round("statistics", BOARDS, "statistics")
        made.round("statistics", BOARDS, "statistics", gate=False)
        yield made


def served(fleet: Fleet) -> dict[str, int]:
    """What each agent says in its status that it serves."""
    return {name: (fleet.status(name)["released"] or {"version": -1})["version"] for name in BOARDS}


def until(holds: Callable[[], bool]) -> None:
    """Wait for processes of others."""
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_trial_reaches_the_canary_alone_and_then_all(fleet: Fleet) -> None:
    """By hand and by itself: the canary serves the trial, both serve what was promoted, a rollback takes both back."""

    def deployment(number: int) -> dict[str, Any]:
        return ask(fleet.hub, {"request": "deployment", "deployment": number})

    ask(fleet.hub, {"request": "deploy", "version": "2", "group": "barn", "promote": "manual"})
    until(lambda: deployment(1)["state"] == "waiting")
    until(lambda: served(fleet) == {"barn": 2, "coop": 1})
    assert set(deployment(1)["scores"]) == {"barn"}

    ask(fleet.hub, {"request": "rollback"})
    until(lambda: served(fleet) == {"barn": 1, "coop": 1})
    ask(fleet.hub, {"request": "deploy", "version": "2", "group": "coop"})
    until(lambda: deployment(2)["state"] == "promoted")
    until(lambda: served(fleet) == {"barn": 2, "coop": 2})
    ask(fleet.hub, {"request": "rollback"})
    until(lambda: served(fleet) == {"barn": 1, "coop": 1})
