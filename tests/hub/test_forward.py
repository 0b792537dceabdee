"""Boards that train by forward passes alone: their pairs become factors at the hub, bit for bit those of the board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import BadData, UsageError
from edge.setup import jobs_of
from edge.train import TrainSettings, train
from hub.making import versions
from hub.making.contributions import trained
from hub.making.model import Model, Slot
from hub.serving.asked import Asked, Replay
from hub.serving.check import adapter_of
from tests.edge.bundles import MODEL as EDGE_MODEL
from tests.edge.test_gradients import random_adapter, rows, runner
from tests.hub.world import RANKS, World
from wire.adamw import Hyperparameters
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.bundle import open_bundle
from wire.files import digest
from wire.kinds.lora import Lora
from wire.kinds.pairs import Directions, Told
from wire.messages import Begin, Sender
from wire.optimizers import Adam32

MakeWorld = Callable[..., World]
BASE = "0" * 64


def begin(data: bytes, samples: int = 6) -> Begin:
    """The announcement of a job's update."""
    return Begin(Sender("barn", "x", 1), digest(data), "adapter", "r1-train-barn", 1, BASE, len(data), samples)


def test_the_hub_makes_the_boards_factors_again(tmp_path: Path) -> None:
    """A real bundle is trained forward only; from pairs alone the hub's door makes the same factors, byte for byte."""
    run = runner(tmp_path, segments=(1, 1))
    start = replace(random_adapter(run.manifest), version=BASE, model=EDGE_MODEL)
    told = TrainSettings(steps=5, batch=4, learning_rate=0.02, trainer="spry", directions=3)

    done = train(run, start, rows(6), told, job="r1-train-barn")

    assert done.directions is not None
    data = to_bytes(Adapter(start.model, BASE, directions=done.directions))
    assert len(data) < 1000
    slots = tuple(Slot(s.name, s.module, s.features_in, s.features_out) for s in run.manifest.slots_of("lora"))
    optimizer = Adam32(Hyperparameters(0.02, told.beta1, told.beta2, weight_decay=told.weight_decay))
    asked = Asked(4, start=lambda base, rank: replace(start, lora=_prefix(start, rank)), replay=Replay(5, 3, optimizer))
    made = adapter_of(data, begin(data), Model(EDGE_MODEL, slots, ("a", "b", "c"), 5), asked)
    for name, factors in done.adapter.lora.items():
        assert made.lora[name].a.tobytes() == factors.a.tobytes()
        assert made.lora[name].b.tobytes() == factors.b.tobytes()
        assert not np.array_equal(factors.b, start.lora[name].b)


def _prefix(start: Adapter, rank: int) -> dict[str, Lora]:
    return {name: w.prefix(rank) for name, w in start.lora.items()}


def test_a_bundle_without_backward_graphs_can_take_part(tmp_path: Path) -> None:
    """Every bundle with slots and a head says that it can train by forward passes."""
    run = runner(tmp_path)
    bundle = open_bundle(tmp_path / "bundle", None)
    graphs = [replace(s, graphs=tuple(g for g in s.graphs if g.kind == "forward")) for s in run.manifest.segments]
    served = replace(bundle, manifest=replace(bundle.manifest, segments=tuple(graphs)))

    assert jobs_of(bundle) == ("train", "spry", "statistics", "evaluate", "secure")
    assert jobs_of(served) == ("spry", "statistics", "evaluate", "secure")


def test_a_round_of_pairs_is_the_mean_of_what_they_make(make_world: MakeWorld) -> None:
    """Ranks are unequal, updates a few hundred bytes; the version is the weighted mean of the factors they make."""
    world = make_world()
    settings = {"trainer": "spry", "steps": 3, "directions": 4, "learning_rate": 0.05}
    found = world.run("train", settings=settings)

    assert found["state"] == "complete", found["sentence"]
    home, model = world.hub.home, world.hub.desk().model
    state = home.ledger.round(1)
    assert state is not None
    made = {c.device: c.read() for c in trained(home, model, 16, state)}
    assert {name: a.rank for name, a in made.items()} == RANKS
    assert max(s["bytes"] for s in found["per_device"].values()) < 600
    total = sum(len(d.classes) for d in world.devices.values())
    before, after = (versions.read_made(row).version for row in home.ledger.versions())
    sent = versions.read_ladder(before, home.blobs)
    for slot, whole in versions.read_ladder(after, home.blobs).items():
        mean = sum(len(world.devices[n].classes) / total * a.lora[slot].product() for n, a in made.items())
        np.testing.assert_allclose(whole.product(), mean, atol=1e-5)  # version 0 carries nothing that could stay
        assert not np.allclose(mean, sent[slot].product())
    row = home.ledger.update_of(1, "barn", "adapter")
    assert row is not None
    kept = read_adapter(home.blobs.get(row["digest"]), "what was journalled")
    assert kept.directions is not None
    assert not kept.lora


def test_only_boards_that_can_are_asked(make_world: MakeWorld) -> None:
    """A round by spry asks those that step by forward passes, a round by backprop those that have gradients."""
    world = make_world()
    world.devices["barn"].jobs = ("spry",)
    world.devices["mill"].jobs = ("train",)
    for name in ("barn", "mill"):
        world.devices[name].hello()
    world.network.pump()

    assert set(world.run("train", settings={"trainer": "spry"})["per_device"]) == {"barn", "coop"}
    assert set(world.run("train")["per_device"]) == {"coop", "mill"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trainer": "magic"}, "expected a trainer among backprop, spry, qzo, found 'magic'"),
        ({"trainer": "spry", "head": True}, "expected forward passes to train one kind"),
        ({"trainer": "spry", "directions": 0}, "expected 1 to 65,536 directions, found 0"),
    ],
)
def test_settings_of_spry_are_checked(make_world: MakeWorld, settings: dict[str, Any], words: str) -> None:
    """What spry cannot do is said when the round is opened."""
    with pytest.raises(UsageError, match=words):
        make_world().ask("open", kind="train", settings=settings)


def pairs(count: int = 6, per_step: int = 3, rank: int = 2, first: int = 0, scalar: float = 0.5) -> Directions:
    """Pairs of two steps."""
    return Directions(Told(rank, per_step), tuple((first + i, scalar) for i in range(count)))


WRONG = {
    "factors instead": (
        Adapter("tiny", BASE, {"s": Lora(np.ones((3, 1), np.float32), np.ones((1, 2), np.float32), 1.0)}),
        "pairs",
    ),
    "too many steps": (Adapter("tiny", BASE, directions=pairs(9)), "it has 9 pairs, 3 a step, instead of 2 steps of 3"),
    "other steps": (Adapter("tiny", BASE, directions=pairs(6, 2)), "it has 6 pairs, 2 a step"),
    "other counters": (Adapter("tiny", BASE, directions=pairs(first=5)), "its counters are not 0, 1, 2 and so on"),
    "a rank too high": (Adapter("tiny", BASE, directions=pairs(rank=9)), "it has rank 9, the hub keeps 1 to 4"),
    "absurd derivatives": (Adapter("tiny", BASE, directions=pairs(scalar=1e30)), "it has derivatives above 1e+06"),
}


@pytest.mark.parametrize(("adapter", "words"), WRONG.values(), ids=WRONG.keys())
def test_pairs_that_the_job_did_not_ask_for_are_refused(adapter: Adapter, words: str) -> None:
    """Whatever a file says of steps, counters, rank or size, only what the job asked for is replayed."""
    model = Model("tiny", (Slot("s", "s", 3, 2),), ("a",), 0)
    start = {"s": Lora(np.ones((3, 2), np.float32), np.zeros((2, 2), np.float32), 1.0)}
    asked = Asked(4, start=lambda base, rank: Adapter("tiny", base, start), replay=Replay(2, 3, Adam32()))
    data = to_bytes(adapter)
    with pytest.raises(BadData) as caught:
        adapter_of(data, begin(data), model, asked)
    assert words in str(caught.value)


def test_pairs_are_refused_where_factors_were_asked_for() -> None:
    """A round of backprop takes no pairs."""
    data = to_bytes(Adapter("tiny", BASE, directions=pairs()))
    with pytest.raises(BadData, match="pairs along directions were not asked for"):
        adapter_of(data, begin(data), Model("tiny", (), ("a",), 0), Asked(4))


def test_a_broken_file_of_pairs_is_refused() -> None:
    """Pairs without metadata, of unequal length or not whole steps are named by the reader."""
    good = to_bytes(Adapter("tiny", BASE, directions=pairs()))
    assert read_adapter(good, "it").directions == pairs()
    with pytest.raises(BadData, match="directions are 5, not so many times 3"):
        read_adapter(to_bytes(Adapter("tiny", BASE, directions=pairs(5))), "it")
    with pytest.raises(BadData, match="directions are 0"):
        read_adapter(to_bytes(Adapter("tiny", BASE, directions=pairs(0))), "it")
    with pytest.raises(BadData, match="is not finite"):
        read_adapter(to_bytes(Adapter("tiny", BASE, directions=pairs(scalar=float("nan")))), "it")
