"""The real hub and the real agent on one network: every kind of update that a board can make is taken and merged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.core import Core
from edge.setup import prepare
from hub.making import versions
from hub.requests.answer import answer
from hub.serving.service import Service
from hub.store import registry
from tests.edge.boards import Board, Clock, HereLink, hub_key, make_board
from tests.edge.hub import FLEET
from wire.keys import write_key
from wire.memory import MemoryTransport, Network
from wire.messages import Version


class Farm:
    """A hub and one board; `run` opens a round and lets time pass until it is over."""

    def __init__(self, folder: Path) -> None:
        self.board: Board = make_board(folder / "board", biases=True)
        self.clock, network = Clock(1000.0), Network()
        self.network = network
        write_key(hub_key(self.board), folder / "hub")
        publisher = folder / "board" / "keys" / f"{self.board.publisher.public.name}.pub"
        registry.create(folder / "hub", FLEET, [publisher], "127.0.0.1:0")
        home = registry.open_home(folder / "hub")
        registry.add_bundle(home, self.board.bundle)
        registry.enroll(home, self.board.config.name, self.board.key.public.line)
        home.ledger.close()
        self.hub = Service(folder / "hub", MemoryTransport(network, "hub"), self.clock)
        self.hub.start()
        setup = prepare(self.board.config)
        self.core = Core(
            setup, MemoryTransport(network, self.board.config.name, setup.voice.will()), HereLink(), self.clock
        )
        self.core.start()
        self.pass_time(3)

    def pass_time(self, seconds: int) -> None:
        """Deliver what is on its way."""
        for _ in range(seconds):
            self.network.pump()
            self.core.turn()
            self.hub.tick()
            self.clock.at += 1.0

    def run(self, kind: str, **asked: Any) -> dict[str, Any]:
        """A round, and what became of it."""
        number = answer(self.hub, {"request": "open", "kind": kind, **asked})["round"]
        for _ in range(60):
            self.pass_time(2)
            found = answer(self.hub, {"request": "show", "round": number})
            if not found["open"]:
                break
        assert found["state"] == "complete", found
        return found

    @property
    def last(self) -> Version:
        """The newest version."""
        return versions.read_made(self.hub.home.ledger.versions()[-1]).version


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    """A board that can do everything but move scales."""
    return Farm(tmp_path)


def test_all_kinds_go_round(farm: Farm) -> None:
    """Statistics, factors and biases, a trained head, pairs of forward passes: each makes a version to go on from."""
    farm.run("statistics", recipe={"head": "ridge"})
    factors = {"steps": 2, "batch": 6, "learning_rate": 0.05}
    blobs = farm.hub.home.blobs

    farm.run("train", settings={**factors, "kinds": ["lora", "bias"]})
    biases = versions.read_biases(farm.last, blobs)
    assert set(biases) == {s.name for s in farm.board.manifest.slots_of("bias")}
    assert all(delta.any() for delta in biases.values())

    farm.run("statistics")
    before = versions.read_heads(farm.last, blobs)
    farm.run("train", settings={**factors, "head": True})
    after = versions.read_heads(farm.last, blobs)
    assert after.keys() == before.keys()
    assert not np.array_equal(after[2].weight, before[2].weight)
    assert versions.read_biases(farm.last, blobs).keys() == biases.keys()

    ladder = versions.read_ladder(farm.last, blobs)
    found = farm.run("train", settings={**factors, "trainer": "spry", "directions": 4}, then="statistics")
    row = farm.hub.home.ledger.version(found["version"]["digest"])
    assert row is not None
    moved = versions.read_ladder(versions.read_made(row).version, blobs)
    assert all(not np.allclose(moved[s].product(), w.product()) for s, w in ladder.items())
    (seat,) = found["per_device"].values()
    assert seat["bytes"] < 1000
    assert answer(farm.hub, {"request": "show", "round": found["round"] + 1})["follows"] == found["round"]


def test_a_real_board_tells_how_much_its_slots_matter(farm: Farm) -> None:
    """After a round of training every slot has a score, which came with the update; a private round adds nothing."""
    farm.run("statistics", recipe={"head": "ridge"})
    farm.run("train", settings={"steps": 3, "batch": 6, "learning_rate": 0.05})
    found = answer(farm.hub, {"request": "importance"})
    slots = found["importance"]["slots"]
    assert slots.keys() == {s.name for s in farm.board.manifest.slots_of("lora")}
    assert all(slot["hsplitlora"] > 0 and slot["count"] == 1 for slot in slots.values())

    config = farm.hub.home.config
    told, recipe = replace(config.privacy, noise=2.0), replace(config.aggregation, weights="uniform")
    farm.hub.home.config = replace(config, privacy=told, aggregation=recipe)
    farm.run("train", settings={"steps": 1, "batch": 4})
    assert answer(farm.hub, {"request": "importance"}) == found


def test_a_real_board_takes_part_in_a_private_round(farm: Farm) -> None:
    """Its change is clipped and noised, what is spent is said, and the board goes on from the version."""
    config = farm.hub.home.config
    told = replace(config.privacy, noise=2.0, clip=0.5)
    recipe = replace(config.aggregation, weights="uniform")
    farm.hub.home.config = replace(config, privacy=told, aggregation=recipe)

    for method in ("stacking", "nested-ffa"):
        found = farm.run("train", settings={"steps": 1, "batch": 4}, recipe={"method": method})
        assert found["privacy"]["spent"] >= found["privacy"]["epsilon"] > 0
    assert answer(farm.hub, {"request": "status"})["privacy"]["rounds"] == 2


def test_a_real_board_lets_a_factor_rest(farm: Farm) -> None:
    """RoLoRA moves B in its first round and A in the next; the board's resting factor comes back to the bit."""
    farm.run("statistics", recipe={"head": "ridge"})
    ladders = [versions.read_ladder(farm.last, farm.hub.home.blobs)]
    for learns in ("b", "a"):
        found = farm.run("train", settings={"steps": 2, "batch": 6, "learning_rate": 0.05}, recipe={"method": "rolora"})
        assert found["settings"]["factors"] == learns
        ladders.append(versions.read_ladder(farm.last, farm.hub.home.blobs))

    first, second, third = ladders
    for slot, lora in first.items():
        assert np.array_equal(second[slot].a, lora.a)
        assert not np.array_equal(second[slot].b, lora.b)
        assert np.array_equal(third[slot].b, second[slot].b)
        assert not np.array_equal(third[slot].a, second[slot].a)


@pytest.mark.parametrize("codec", ["fp16", "int8", "int4", "top:0.2"])
def test_a_real_board_sends_thin_updates(farm: Farm, codec: str) -> None:
    """Factors, biases and a head arrive in fewer bytes, nearly as learned; the next update makes good what was lost."""
    farm.run("statistics", recipe={"head": "ridge"})
    settings = {"steps": 2, "batch": 6, "learning_rate": 0.05, "kinds": ["lora", "bias"], "head": True, "seed": 1}
    blobs = farm.hub.home.blobs
    whole = farm.run("train", settings=settings)
    wanted = versions.read_ladder(farm.last, blobs)

    thin = farm.run("train", settings=settings, recipe={"thin": codec})
    found = versions.read_ladder(farm.last, blobs)

    assert thin["settings"]["thin"] == codec
    assert thin["bytes"] < whole["bytes"]
    assert all(not np.array_equal(found[s].product(), w.product()) for s, w in wanted.items())
    kept = farm.board.config.state / "lost" / "counts"
    assert kept.is_file() == (codec != "fp16")


def test_a_real_board_prunes_itself(farm: Farm) -> None:
    """Under a strong penalty its second update has half of its directions, and the hub takes it."""
    farm.run("statistics", recipe={"head": "ridge"})
    told = {"steps": 8, "batch": 6, "learning_rate": 0.02}
    farm.run("train", settings=told, recipe={"method": "hetlora"})

    found = farm.run("train", settings={**told, "prune_gamma": 0.5, "prune_lambda": 50.0}, recipe={"method": "hetlora"})

    (seat,) = found["per_device"].values()
    assert seat["metrics"]["rank"] == farm.board.manifest.plan.rank // 2
