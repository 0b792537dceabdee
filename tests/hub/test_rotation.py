"""Another key of the hub: announced, learned by real agents, used; cut off anywhere, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console.errors import BadData, HubError, StorageError
from edge.core import Core
from edge.setup import prepare
from hub.identity import rotation
from hub.requests.answer import answer
from hub.serving.service import Service
from hub.store import registry
from tests.edge.boards import HereLink
from tests.hub.test_real_agent import Farm
from tests.hub.world import World
from wire.envelope import body_of
from wire.keys import read_private_key, read_public_key
from wire.memory import MemoryTransport
from wire.messages import Hello, HubKeys, Sender, Standing, decode
from wire.topics import parse_topic


class Rotating(Farm):
    """A hub and a real agent that come and go."""

    def ask(self, **request: Any) -> dict[str, Any]:
        return answer(self.hub, {"request": "rotate-key", **request})

    def believed(self) -> list[str]:
        """The keys that the agent believes."""
        return list(self.core.setup.hub.believed)

    def leave(self) -> None:
        """The agent is off; nothing that is said reaches it."""
        self.core.close()
        assert self.core.setup.lock is not None
        self.core.setup.lock.close()
        self.network.endpoints.pop(self.board.config.name)

    def come_back(self) -> None:
        setup = prepare(self.board.config)
        transport = MemoryTransport(self.network, self.board.config.name, setup.voice.will())
        self.core = Core(setup, transport, HereLink(), self.clock)
        self.core.start()
        self.pass_time(5)

    def restart_hub(self) -> None:
        self.hub.home.ledger.close()
        self.hub = Service(self.hub.home.folder, MemoryTransport(self.network, "hub"), self.clock)
        self.hub.start()
        self.pass_time(3)


@pytest.fixture
def farm(tmp_path: Path) -> Rotating:
    """A hub with one board."""
    return Rotating(tmp_path)


def test_boards_learn_a_key_and_leave_the_one_before(farm: Rotating) -> None:
    """Announced, both are believed and the hub signs as before; finished, only the new one; rounds go on throughout."""
    folder, old = farm.hub.home.folder, farm.hub.home.key.public.id
    with pytest.raises(HubError, match="begin with"):
        farm.ask(finish=True)
    found = farm.ask()
    assert found["wait"] == [farm.board.config.name]
    farm.pass_time(5)
    assert farm.ask() == {**found, "know": [farm.board.config.name], "wait": []}
    assert farm.believed() == [old, found["next"]]
    farm.run("statistics", recipe={"head": "ridge"})

    assert farm.ask(finish=True)["key"] == found["next"]
    farm.pass_time(5)
    assert farm.believed() == [found["next"]]
    assert read_private_key(folder / "hub.key").public.id == found["next"]
    assert read_public_key(folder / "hub.pub", "hub").id == found["next"]
    assert sorted(path.name for path in folder.glob("hub*")) == ["hub.chain", "hub.key", "hub.pub", "hub.toml"]
    farm.run("train", settings={"steps": 1, "batch": 6, "learning_rate": 0.05})
    farm.restart_hub()
    farm.run("statistics")


def test_a_board_that_was_away_for_two_keys_is_brought_over(farm: Rotating) -> None:
    """It knows the first key alone; at its hello it gets the chain, and what the newest key signs counts."""
    farm.leave()
    for _ in range(2):
        farm.ask()
        with pytest.raises(HubError, match="have not said so"):
            farm.ask(finish=True)
        farm.ask(finish=True, anyway=True)
    farm.come_back()
    assert farm.believed() == [farm.hub.home.key.public.id]
    farm.run("statistics", recipe={"head": "ridge"})


def test_a_hub_that_is_off_when_its_key_changes_says_so_at_the_next_hello(farm: Rotating) -> None:
    """Announced and finished on the folder, without a running hub: boards follow when it is there again."""
    farm.hub.home.ledger.close()
    home = registry.open_home(farm.hub.home.folder)
    rotation.begin(home)
    rotation.finish(home, anyway=True)
    home.ledger.close()
    farm.leave()
    farm.hub = Service(farm.hub.home.folder, MemoryTransport(farm.network, "hub"), farm.clock)
    farm.hub.start()
    farm.come_back()
    assert farm.believed() == [farm.hub.home.key.public.id]


def test_beginning_again_changes_nothing(farm: Rotating) -> None:
    """Until an announced key is used there is no other one: no board takes a second heir."""
    folder = farm.hub.home.folder
    farm.ask()
    before = {path.name: path.read_bytes() for path in folder.glob("hub*")}
    farm.ask()
    assert {path.name: path.read_bytes() for path in folder.glob("hub*")} == before


@pytest.mark.parametrize("at", range(3))
def test_a_change_that_is_cut_off_is_ended_at_the_next_start(
    farm: Rotating, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Killed between any two of its steps, the hub has one key that fits its .pub file, the old or the new one."""
    folder, old = farm.hub.home.folder, farm.hub.home.key.public.id
    found, calls = farm.ask(), list[int]()

    def until(what: Callable[..., Any]) -> Callable[..., Any]:
        def call(*told: Any, **more: Any) -> Any:
            calls.append(1)
            if len(calls) > at:
                raise KeyboardInterrupt
            return what(*told, **more)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", until(Path.replace))  # of hub.pub, then of hub.key
        patch.setattr(Path, "unlink", until(Path.unlink))
        with pytest.raises(KeyboardInterrupt):
            farm.ask(finish=True, anyway=True)
    farm.restart_hub()
    assert farm.hub.home.key.public.id == read_public_key(folder / "hub.pub", "hub").id
    assert farm.hub.home.key.public.id == (old if at == 0 else found["next"])
    if at == 0:
        farm.ask(finish=True, anyway=True)
    assert farm.hub.home.key.public.id == found["next"]
    farm.pass_time(5)
    assert farm.believed() == [found["next"]]


def test_a_lost_or_wrong_key_file_is_said(farm: Rotating) -> None:
    """Without the announced key nothing changes, since no other one can take its place; a damaged chain is no chain."""
    folder = farm.hub.home.folder
    farm.ask()
    (folder / "hub-2.key").rename(folder / "away")
    with pytest.raises(StorageError, match="no other one can take its place"):
        farm.ask(finish=True, anyway=True)
    (folder / "away").rename(folder / "hub-2.key")
    (folder / "hub.chain").write_text('{"links": ["AAAA"]}')
    with pytest.raises(BadData, match="restore it from a backup"):
        rotation.chain(folder)


def test_every_hello_is_answered(make_world: Callable[..., World]) -> None:
    """The answer names the hello and the highest release of that board; who lacks the new key gets the chain."""
    world = make_world()
    world.run("statistics", recipe={"head": "ridge"})
    before = len(world.network.history)
    rotation.begin(world.hub.home)
    world.hub.standings.keys_to_all()
    world.devices["coop"].say(Hello(Sender("coop", "b", 77), "numpy", "server", "0" * 64, 4, (), 1))
    world.network.pump()
    release = world.hub.home.ledger.release("tiny")
    assert release is not None
    heard = [(parse_topic(topic), payload) for topic, payload in world.network.history[before:]]
    own = [(to.topic.message, payload) for to, payload in heard if to is not None and to.device == "coop"]
    said = [(kind, payload) for kind, payload in own if kind in (HubKeys, Standing)]
    assert [kind for kind, _ in said] == [HubKeys, HubKeys, Standing]
    assert decode(body_of(said[-1][1], "m"), Standing) == Standing(
        "coop", "b", 77, release["sequence"], release["digest"]
    )
