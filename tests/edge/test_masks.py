"""The real agent in sums under masks: with the real hub, killed between any two messages, and asked to lie."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.core import Core
from edge.masks import Masks
from edge.setup import prepare
from hub.making import versions
from hub.requests.answer import answer
from hub.serving.service import Service
from hub.store import registry
from tests.edge.boards import Board, Clock, HereLink, hub_key, make_board
from tests.edge.hub import FLEET
from wire.keys import write_key
from wire.memory import MemoryTransport, Network

NAMES = ("barn", "coop", "mill")


class Fleet:
    """A hub and three real agents with unequal rows, of one bundle."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.network, self.boards, self.cores = (
            Clock(1000.0),
            Network(),
            dict[str, Board](),
            dict[str, Core](),
        )
        for place, name in enumerate(NAMES):
            self.boards[name] = make_board(folder / name, name, rows=20 + 6 * place)
        first = self.boards["barn"]
        for name in NAMES[1:]:  # one bundle, one publisher, one hub for all
            own = self.boards[name].config
            told = {**vars(own), "bundle": first.bundle, "hub_keys": first.config.hub_keys}
            self.boards[name].config = type(own)(**{**told, "publisher_keys": first.config.publisher_keys})
        write_key(hub_key(first), folder / "hub")
        publisher = folder / "barn" / "keys" / f"{first.publisher.public.name}.pub"
        registry.create(folder / "hub", FLEET, [publisher], "127.0.0.1:0")
        home = registry.open_home(folder / "hub")
        registry.add_bundle(home, first.bundle)
        for name, board in self.boards.items():
            registry.enroll(home, name, board.key.public.line)
        home.ledger.close()
        self.hub = Service(folder / "hub", MemoryTransport(self.network, "hub"), self.clock)
        self.hub.start()
        for name in NAMES:
            self.start(name)
        self.pass_time(3)

    def start(self, name: str) -> None:
        """Start an agent; the one before it, if any, is dropped as a power cut would."""
        if name in self.cores:
            self.cores[name].transport.drop()  # type: ignore[attr-defined]  # it is the in-memory one
            assert self.cores[name].setup.lock is not None
            self.cores[name].setup.lock.close()  # type: ignore[union-attr]  # just asserted
        setup = prepare(self.boards[name].config)
        transport = MemoryTransport(self.network, name, setup.voice.will())
        self.cores[name] = Core(setup, transport, HereLink(), self.clock)
        self.cores[name].start()

    def pass_time(self, seconds: int, each: Any = lambda: None) -> None:
        """Deliver what is on its way."""
        for _ in range(seconds):
            self.network.pump()
            for core in self.cores.values():
                core.turn()
            each()
            self.hub.tick()
            self.clock.at += 1.0

    def run(self, kind: str, each: Any = lambda: None, **asked: Any) -> dict[str, Any]:
        """A round, and what became of it."""
        number = answer(self.hub, {"request": "open", "kind": kind, **asked})["round"]
        found: dict[str, Any] = {}
        for _ in range(150):
            self.pass_time(2, each)
            found = answer(self.hub, {"request": "show", "round": number})
            if not found["open"]:
                break
        return found

    def last(self) -> tuple[Any, Any]:
        """Heads and ladder of the newest version."""
        made, blobs = versions.read_made(self.hub.home.ledger.versions()[-1]).version, self.hub.home.blobs
        return versions.read_heads(made, blobs), versions.read_ladder(made, blobs)


TRAIN: dict[str, Any] = {
    "recipe": {"method": "nested-ffa", "weights_cap": 0.0},
    "settings": {"steps": 2, "batch": 6, "learning_rate": 0.05},
}


@pytest.mark.heavy
def test_real_boards_add_up_what_they_learned(tmp_path: Path) -> None:
    """Statistics and training under masks make what they make without, and boards keep nothing of the sums."""
    masked, plain = Fleet(tmp_path / "masked"), Fleet(tmp_path / "plain")
    for fleet, secure in ((masked, True), (plain, False)):
        assert fleet.run("statistics", secure=secure, recipe={"head": "lda"})["state"] == "complete"
        found = fleet.run("train", secure=secure, **TRAIN)
        assert found["state"] == "complete", found["sentence"]

    for one, other in zip(masked.last(), plain.last(), strict=True):
        assert one.keys() == other.keys()
    for rank, head in plain.last()[0].items():
        np.testing.assert_allclose(masked.last()[0][rank].weight, head.weight, rtol=1e-4, atol=1e-6)
    for slot, lora in plain.last()[1].items():
        np.testing.assert_allclose(masked.last()[1][slot].b, lora.b, atol=1e-6)
        assert np.abs(lora.b).max() > 1e-3
    for core in masked.cores.values():
        assert core.masks.states == {}
        assert not list(core.masks.folder.iterdir())


def test_real_boards_step_once_along_shared_directions(tmp_path: Path) -> None:
    """By forward passes under masks: a version is made of derivatives, of which the hub saw the mean alone."""
    fleet = Fleet(tmp_path)
    fleet.run("statistics", secure=True)
    before = fleet.last()[1]

    told = {"trainer": "spry", "steps": 1, "batch": 6, "directions": 4, "learning_rate": 0.05}
    found = fleet.run("train", secure=True, settings=told)

    assert found["state"] == "complete", found["sentence"]
    after = fleet.last()[1]
    assert any(not np.allclose(after[slot].product(), lora.product(), atol=1e-5) for slot, lora in before.items())


@pytest.mark.parametrize("turn", [pytest.param(n, marks=[] if n == 3 else pytest.mark.heavy) for n in range(6)])
def test_an_agent_killed_between_two_messages_goes_on(tmp_path: Path, turn: int) -> None:
    """Whenever an agent is killed and started again, its update is in the sum; its secrets lie where only it reads."""
    fleet, passed = Fleet(tmp_path), [0]

    def kill() -> None:
        if passed[0] == turn:
            fleet.start("coop")
        passed[0] += 1
        for path in fleet.boards["coop"].config.state.glob("masks/*"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    found = fleet.run("statistics", kill, secure=True)

    assert found["state"] == "complete", found["sentence"]
    assert found["secure"]["survivors"] == list(NAMES)
    assert passed[0] > turn


def test_a_sum_that_was_withdrawn_leaves_nothing(tmp_path: Path) -> None:
    """A round that is stopped in the middle: secrets, vector and state are gone from the board, and stay gone."""
    fleet = Fleet(tmp_path)
    del fleet.cores["mill"]  # never answers, so the round waits for keys
    answer(fleet.hub, {"request": "open", "kind": "statistics", "secure": True, "devices": list(NAMES)})
    fleet.pass_time(4)
    assert len(list(fleet.cores["barn"].masks.folder.iterdir())) == 2

    answer(fleet.hub, {"request": "stop", "round": 1})
    fleet.pass_time(3)

    assert not list(fleet.cores["barn"].masks.folder.iterdir())
    assert Masks(fleet.boards["barn"].config.state).states == {}


def test_a_board_that_knows_its_peers_shares_with_nobody_else(tmp_path: Path) -> None:
    """With keys.peers, keys that no peer signed are refused: a hub cannot make up boards around a single one."""
    fleet = Fleet(tmp_path)
    own = fleet.boards["barn"].config
    known = tuple(tmp_path / n / "keys" / f"{n}.pub" for n in ("barn", "coop"))
    fleet.boards["barn"].config = type(own)(**{**vars(own), "peer_keys": known})
    fleet.start("barn")
    fleet.pass_time(3)

    found = fleet.run("statistics", secure=True, threshold=2, deadline_s=30)

    assert found["state"] == "complete"
    assert found["secure"]["maskers"] == ["coop", "mill"]
    assert "the keys of mill signed by a trusted device key" in found["per_device"]["barn"]["reason"]


def opted(fleet: Fleet, name: str, **told: bool) -> None:
    """Start a board with another agent.toml."""
    own = fleet.boards[name].config
    fleet.boards[name].config = type(own)(**{**vars(own), **told})
    fleet.start(name)
    fleet.pass_time(3)


def test_a_board_that_takes_no_part_serves_and_says_nothing_else(tmp_path: Path) -> None:
    """It is not asked, refuses when it is named, drops what waited in its outbox, and follows releases all the same."""
    fleet = Fleet(tmp_path)
    fleet.hub.transport.drop()  # type: ignore[attr-defined]  # it is the in-memory one
    waiting = fleet.cores["barn"].outbox
    payload = tmp_path / "payload"
    payload.write_bytes(b"what it learned")
    waiting.put(payload, kind="adapter", job="r0-train-barn", round_=0, base="0" * 64, samples=1, metrics={})
    fleet.hub.start()
    (fleet.boards["barn"].folder / "data.jsonl").write_text("this is no data, and nobody looks")

    opted(fleet, "barn", take_part=False)
    assert fleet.cores["barn"].outbox.updates == {}
    hello = fleet.hub.home.ledger.device("barn")["hello"]  # type: ignore[index]  # it is enrolled
    assert (hello["jobs"], hello["samples"]) == ([], 0)

    assert set(fleet.run("statistics")["per_device"]) == {"coop", "mill"}
    named = fleet.run("statistics", devices=list(NAMES), gate=False)
    assert named["per_device"]["barn"]["reason"] == "this board takes part in no round (agent.take_part is false)"
    assert all(row["device"] != "barn" for row in fleet.hub.home.ledger.all_updates())
    fleet.pass_time(5)
    assert fleet.cores["barn"].store.released.served is not None


def test_a_board_may_take_part_under_masks_only(tmp_path: Path) -> None:
    """With agent.only_secure it refuses to send updates and scores as they are, and takes part in sums under masks."""
    fleet = Fleet(tmp_path)
    opted(fleet, "coop", only_secure=True)

    plain = fleet.run("statistics")
    assert "under masks only" in plain["per_device"]["coop"]["reason"]
    assert fleet.run("statistics", secure=True)["secure"]["survivors"] == list(NAMES)
    assert "under masks only" in fleet.run("evaluate", versions=["1"])["per_device"]["coop"]["reason"]
