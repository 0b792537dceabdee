"""Rounds that move the scales of a quantized model: the mean is exact, and belongs to one format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from console.errors import BadData, HubError, UsageError
from hub.making import versions
from hub.making.model import Model
from hub.serving.asked import Asked
from hub.serving.check import adapter_of
from hub.store import registry
from tests.hub.bundles import manifest, write_bundle
from tests.hub.world import World
from wire.adapter import Adapter, to_bytes
from wire.files import digest
from wire.kinds.scales import Belongs, Replay, ScaleFactors
from wire.messages import Begin, Sender

MakeWorld = Callable[..., World]
SHAPES = {"layer.0.query": (6, 2), "layer.1.value": (8, 2)}
BASE = "0" * 64


def with_scales(make_world: MakeWorld, **asked: Any) -> World:
    """A world of one int4 model; each device moves the scales of its own share, a row of them each."""
    world = make_world(scales=SHAPES, **asked)
    g = np.random.default_rng(0)
    for device in world.devices.values():
        device.scale_moves = {
            n: np.exp(0.1 * g.standard_normal((r, 1))).astype(np.float32) for n, (r, _) in SHAPES.items()
        }
        device.belongs = {n: Belongs("int4", digest(n.encode()), (r, 1)) for n, (r, _) in SHAPES.items()}
    return world


def last(world: World) -> versions.Made:
    """The newest version."""
    return versions.read_made(world.hub.home.ledger.versions()[-1])


def test_factors_are_the_weighted_mean(make_world: MakeWorld) -> None:
    """After two rounds factors are the weighted mean of the boards' models, which are linear in them."""
    world = with_scales(make_world)
    world.run("statistics")
    for _ in range(2):
        found = world.run("train", settings={"trainer": "qzo"})
        assert found["state"] == "complete", found["sentence"]

    made = versions.read_scales(last(world).version, world.hub.home.blobs)

    rows = {name: len(d.classes) for name, d in world.devices.items()}
    assert made is not None
    for name, (size, _) in SHAPES.items():
        wanted = np.ones((size, 1))
        for _ in range(2):
            wanted = wanted * sum(rows[n] * d.scale_moves[name] for n, d in world.devices.items()) / sum(rows.values())
        np.testing.assert_allclose(made.factors[name], wanted, rtol=1e-6)
        assert made.belongs[name].shape == (size, 1)
    assert last(world).version.rungs == versions.read_made(world.hub.home.ledger.versions()[0]).version.rungs


def test_backward_graphs_know_nothing_of_moved_scales(make_world: MakeWorld) -> None:
    """After a round of scales one of backprop is refused when it is opened; one of forward passes is not."""
    world = with_scales(make_world)
    world.run("statistics")
    world.run("train", settings={"trainer": "qzo"})

    with pytest.raises(HubError, match="expected a version whose scales are where they were"):
        world.ask("open", kind="train")
    assert world.run("train", settings={"trainer": "spry", "steps": 1})["state"] == "complete"
    assert versions.read_scales(last(world).version, world.hub.home.blobs) is not None  # and they stay


def test_formats_are_not_mixed(make_world: MakeWorld) -> None:
    """A fleet with a bundle of another format, or without scales, has no round of scales."""
    with pytest.raises(HubError, match="expected bundles of one format whose scales can be moved"):
        make_world().ask("open", kind="train", settings={"trainer": "qzo"})
    world = with_scales(make_world)
    with pytest.raises(HubError, match="expected a version with a head to train scales below it"):
        world.ask("open", kind="train", settings={"trainer": "qzo"})
    other = write_bundle(world.folder.parent / "other", world.publisher, *manifest(device="raspberry-pi-5-4gb"))
    registry.add_bundle(world.hub.home, other)
    with pytest.raises(HubError, match="expected bundles of one format whose scales can be moved"):
        world.ask("open", kind="train", settings={"trainer": "qzo"})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"settings": {"trainer": "qzo", "head": True}}, "expected forward passes to train one kind"),
        ({"settings": {"trainer": "qzo", "kinds": ["lora"]}}, "expected kinds among scales, found"),
        ({"settings": {"kinds": ["scales"]}}, "expected kinds among lora, bias, found"),
        (
            {"settings": {"trainer": "qzo"}, "recipe": {"robust": "geometric-median"}},
            "expected no robust rule for factors",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(make_world: MakeWorld, asked: dict[str, Any], words: str) -> None:
    """Scales learn alone, by qzo, and no robust rule looks at them."""
    world = with_scales(make_world)
    world.run("statistics")
    with pytest.raises(UsageError, match=words):
        world.ask("open", kind="train", **asked)


MODEL = Model("tiny", (), ("a",), 0, (), (("w", "int4", "d" * 64, (4, 2)),))


def moved(shape: tuple[int, ...] = (4, 1), value: float = 1.5, kind: str = "int4", of: str = "d" * 64) -> Adapter:
    """An update that moves the scales of one weight."""
    return Adapter(
        "tiny", BASE, scales=ScaleFactors({"w": Belongs(kind, of, shape)}, {"w": np.full(shape, value, np.float32)})
    )


def many() -> Adapter:
    """A replay of more pairs than anybody could have found."""
    replay = Replay(1, 0, 1, tuple((i, 0.0) for i in range((1 << 20) + 1)))
    return Adapter("tiny", BASE, scales=ScaleFactors({"w": Belongs("int4", "d" * 64, (4, 1))}, None, replay))


WRONG: dict[str, tuple[Adapter, tuple[str, ...], str]] = {
    "another format": (moved(kind="int8"), ("scales",), "were learned in int8, and here it is int4"),
    "other numbers": (moved(of="e" * 64), ("scales",), "were learned on other int4 numbers"),
    "another shape": (moved(shape=(5, 1)), ("scales",), r"are \[4, 2\], not \[5, 1\]"),
    "too far": (moved(value=5e3), ("scales",), "the factors of w are not all from 0.001 to 1000"),
    "too many pairs": (many(), ("scales",), "come of 1048577 pairs"),
    "none": (Adapter("tiny", BASE), ("scales",), "it moves no scales"),
    "unasked": (moved(), ("lora",), "moved scales were not asked for"),
}


@pytest.mark.parametrize(("adapter", "kinds", "words"), WRONG.values(), ids=WRONG.keys())
def test_scales_go_through_the_door(adapter: Adapter, kinds: tuple[str, ...], words: str) -> None:
    """What does not belong to the fleet's weights, or was not asked for, is refused in words that name it."""
    data = to_bytes(adapter)
    begin = Begin(Sender("barn", "x", 1), digest(data), "adapter", "r1-train-barn", 1, BASE, len(data), 4)
    with pytest.raises(BadData, match=words):
        adapter_of(data, begin, MODEL, Asked(4, kinds=kinds))


def test_scales_that_were_asked_for_come_in() -> None:
    """A factor for each scale, or one for each row of them."""
    for shape in ((4, 1), (4, 2)):
        data = to_bytes(moved(shape))
        begin = Begin(Sender("barn", "x", 1), digest(data), "adapter", "r1-train-barn", 1, BASE, len(data), 4)
        assert adapter_of(data, begin, MODEL, Asked(4, kinds=("scales",))).scales is not None


def test_what_a_round_does_not_train_stays(make_world: MakeWorld) -> None:
    """Biases and scales are one file: a round of the one leaves the other as it was."""
    world = with_scales(make_world, biases={"layer.0.query": 6})
    for device in world.devices.values():
        device.bias_moves = {"layer.0.query": np.ones(6, np.float32)}
    world.run("statistics")
    world.run("train", settings={"kinds": ["bias"]}, recipe={"robust": "median"})
    world.run("train", settings={"trainer": "qzo"})
    blobs, version = world.hub.home.blobs, last(world).version
    np.testing.assert_allclose(versions.read_biases(version, blobs)["layer.0.query"], 1.0, rtol=1e-6)
    assert versions.read_scales(version, blobs) is not None
    world.run("train", settings={"trainer": "spry", "steps": 1}, recipe={"robust": "median"})
    after = last(world).version
    assert after.rungs != version.rungs
    assert after.others == version.others
