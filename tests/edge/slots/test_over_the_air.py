"""A real hub, and a real agent that its launcher starts: it becomes another release, or stays what it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from devices.payload.own import own_files
from devices.payload.packed import write_packed
from devices.payload.placed import Placed
from devices.payload.release import assemble
from devices.payload.target import target_of
from edge.slots import launch, trial
from edge.slots.system import own_system
from hub import authority
from hub.serving.control import ask
from hub.store import registry
from tests.edge.boards import hub_key, make_board
from tests.edge.hub import FLEET
from tests.edge.test_fetch_killed import TOML
from tests.edge.test_renewing import NAME, golden_bundle
from tests.processes import started, until
from wire.keys import write_key
from wire.tls import new_request

pytestmark = [pytest.mark.fleet, pytest.mark.heavy]


class Fleet:
    """A hub's folder, a board's home with a release in it, and packed releases."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hub, self.home = folder, folder / "hub", folder / "board"
        board = make_board(self.home)
        self.publisher, self.target = board.publisher, target_of(*own_system())
        shutil.rmtree(self.home / "bundle")
        golden_bundle(self.home / "bundle", board.publisher)
        write_key(hub_key(board), self.hub)
        registry.create(self.hub, FLEET, [self.home / "keys" / f"{board.publisher.public.name}.pub"], "127.0.0.1:0")
        home = registry.open_home(self.hub)
        registry.enroll(home, NAME, board.key.public.line)
        registry.add_bundle(home, self.home / "bundle")
        home.ledger.close()
        _, request = new_request(NAME, self.home / "keys")
        made = authority.issue_device(authority.load(self.hub), NAME, request.read_bytes(), 10)
        (self.home / "keys" / "tls.pem").write_bytes(made)
        self.first = self.release("first")
        for placed in assemble(self.target, {}, self._files("first", {})).files:
            path = self.home / "releases" / placed.path.partition("/releases/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(placed.content if isinstance(placed.content, bytes) else placed.content.read_bytes())
        launch.switch(self.home, self.first)

    def release(self, mark: str, replaced: Mapping[str, bytes] | None = None) -> str:
        """Pack a release of our own code, some files of it replaced; its version."""
        made = assemble(self.target, {}, self._files(mark, replaced or {}))
        write_packed(made, self.folder / mark, self.publisher)
        return made.version

    def _files(self, mark: str, replaced: Mapping[str, bytes]) -> tuple[Placed, ...]:
        quick = Path(trial.__file__).read_text().replace("steady: float = 60.0", "steady: float = 2.0").encode()
        changed = {"lib/edge/slots/trial.py": quick, **replaced}
        own = [placed for placed in own_files("lib") if placed.path not in changed]
        return (*own, *(Placed(path, data) for path, data in changed.items()), Placed("lib/mark.txt", mark.encode()))

    def configure(self, port: int) -> list[str]:
        """Write agent.toml; the arguments of the agent."""
        config = self.home / "agent.toml"
        config.write_text(
            TOML.format(name=NAME, fleet=FLEET, port=port, ca=self.hub / "ca.pem").replace(
                'data = "data.jsonl"', 'data = "data.jsonl"\nbundle = "bundle"'
            )
        )
        return ["agent", "run", "--config", str(config)]

    def shown(self) -> dict[str, Any]:
        """What the hub says of the board."""
        found: dict[str, Any] = ask(self.hub, {"request": "release show"})["devices"][0]
        return found

    def give(self, mark: str, version: str) -> None:
        """Add a release, and name it to the board."""
        ask(self.hub, {"request": "release add", "folder": str(self.folder / mark)})
        ask(self.hub, {"request": "release assign", "release": version, "devices": [NAME]})


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """All of it."""
    return Fleet(tmp_path)


@pytest.fixture
def server(fleet: Fleet) -> Iterator[int]:
    """The hub runs; its port."""
    command = [sys.executable, "-m", "edgequilt", "hub", "up", str(fleet.hub), "--port", "0", "--json"]
    with started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["port"]


def test_a_board_becomes_another_release(fleet: Fleet, server: int) -> None:
    """It fetches, proves and tries it, stays with it once it heard the hub and its bundle answered; and goes back."""
    second = fleet.release("second")
    agent = [sys.executable, launch.__file__, *fleet.configure(server)]
    environment = {**os.environ, "EDGEQUILT_HOME": str(fleet.home)}
    counted = fleet.home / launch.TRIAL
    with started(agent, env=environment) as process:
        until(lambda: fleet.shown()["has"] == fleet.first, process)
        fleet.give("second", second)
        until(lambda: fleet.shown()["has"] == second and not counted.exists(), process)
        until(lambda: fleet.shown()["state"] == "runs it", process)
        assert (fleet.home / "current").readlink() == Path("releases", second)
        assert {p.name for p in (fleet.home / "releases").iterdir()} == {fleet.first, second}
        status = json.loads((fleet.home / "state" / "status.json").read_text())
        assert status["core_bytes"] < 35 << 20
        fleet.give("first", fleet.first)  # by hand: what is there is not fetched again
        until(lambda: fleet.shown()["has"] == fleet.first and not counted.exists(), process)
    assert {p.name for p in (fleet.home / "releases").iterdir()} == {fleet.first, second}


def test_a_release_that_cannot_be_imported_is_never_tried(fleet: Fleet, server: int) -> None:
    """The hub hears why; the board runs what it ran, and nothing of the other is left."""
    broken = fleet.release("broken", {"lib/edge/outbox.py": b"import nothing_of_that_name\n"})
    agent = [sys.executable, launch.__file__, *fleet.configure(server)]
    with started(agent, env={**os.environ, "EDGEQUILT_HOME": str(fleet.home)}) as process:
        until(lambda: fleet.shown()["has"] == fleet.first, process)
        fleet.give("broken", broken)
        until(lambda: "nothing_of_that_name" in fleet.shown()["state"], process)
    assert (fleet.home / "current").readlink() == Path("releases", fleet.first)
    assert {p.name for p in (fleet.home / "releases").iterdir()} == {fleet.first}
