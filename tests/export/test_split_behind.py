"""Fronts hold what no gradient goes through: the tail goes back to the border, and the board learns by differences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge.data.row import Row
from edge.runner import Runner
from edge.setup import jobs_of
from edge.split.channel import Channel, Note
from edge.split.differences import Differences
from edge.split.front import Front
from edge.split.job import SplitSettings, train_front
from edge.split.parts import part_of
from edge.split.talk import Talk
from edge.split.wish import wish_of
from edge.train import TrainSettings
from export.chain import chain_of
from export.gradient.path import NoGradientRule
from tests.edge.split.halves import SILENCE_S, beside
from tests.edge.test_gradients import random_adapter
from tests.export.sampled import sampled, torch_loss
from tests.export.split_case import LABELS, WIDTH, SplitBundles, split_bundles
from wire.adapter import Adapter
from wire.directions import unit_key
from wire.inputs import inputs_of
from wire.philox import signs

AFTER = 15  # the first unit behind GridSample


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> SplitBundles:
    """Two fronts with the operator in them, and the tail."""
    folder = tmp_path_factory.mktemp("behind")
    source = str(sampled(folder / "sampled.onnx"))
    return split_bundles(folder / "out", source, borders=(AFTER, AFTER + 6), mode="train-forward")


def _start(bundles: SplitBundles) -> Adapter:
    manifest = bundles.tail.manifest
    return replace(random_adapter(manifest), model=manifest.model.id)


def _rows(count: int) -> list[Row]:
    generator = np.random.default_rng(4)
    return [Row({"x": generator.normal(size=WIDTH).astype(np.float32)}, i % len(LABELS)) for i in range(count)]


def test_the_tail_goes_back_to_the_first_border(bundles: SplitBundles) -> None:
    """Its segments before the border run forward only, the others go back, and it still says that it takes tails."""
    kinds = [{g.kind for g in s.graphs} >= {"backward"} for s in bundles.tail.manifest.segments]
    assert kinds == [False, True, True]
    assert "tail" in jobs_of(bundles.tail)
    assert [jobs_of(front) for front in bundles.fronts] == [("front",)] * 2
    for front in bundles.fronts:
        assert 0 < front.manifest.extra["verified"]["difference_error"] <= 0.01


def test_the_gradient_of_the_border_is_torchs(bundles: SplitBundles) -> None:
    """What the tail returns is what torch's autograd finds at the output of the operator."""
    start, rows = _start(bundles), _rows(2)
    given, labels = inputs_of(bundles.tail.manifest, start), np.array([row.label for row in rows])
    x, ones = np.stack([row.sample["x"] for row in rows]), np.ones(2, np.float32)
    chain, border = chain_of(bundles.tail), bundles.tail.manifest.segments[1].inputs[0]
    values = chain.backward(chain.forward({**given, "x": x, "labels": labels, "weights": ones}))

    loss, leaves, seen = torch_loss(x, labels, ones, given)
    above = [name for name in leaves if not name.startswith(("slot.layer.0", "slot.layer.1")) and "scale" not in name]
    true = [g.numpy() for g in torch.autograd.grad(loss, [seen, *(leaves[name] for name in above)])]

    assert values["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    steepest = max(float(np.abs(g).max()) for g in true)
    assert len(above) == 6
    for name, expected in zip((border, *above), true, strict=True):
        found = values[f"grad.{name}"].reshape(expected.shape)
        assert np.abs(found - expected).max() <= 1e-5 * min(steepest, 10 * np.abs(expected).max())


def test_what_a_front_finds_is_torchs_gradient_along_its_directions(bundles: SplitBundles) -> None:
    """A board's estimate is the projection of the true gradient, through the operator, on each of its directions."""
    start, rows, found = _start(bundles), _rows(2), list[dict[str, np.ndarray]]()
    front = bundles.shallow
    names = sorted({n for s in front.manifest.slots_of("lora") for n in (s.a, s.b)})

    def act(channel: Channel) -> None:
        talk, look = Talk(channel, SILENCE_S), Differences(11, 3, names, 3)
        talk.open(wish_of(front.manifest, "", "float32"))
        runner = Runner(front)
        runner.chain = Front(front, talk, differences=look)
        found.append(runner.gradients(rows, part_of(front.manifest, start)).by_input)
        channel.send(Note("gone"))

    beside(bundles.tail, start, TrainSettings(), act)

    labels = np.array([row.label for row in rows])
    x = np.stack([row.sample["x"] for row in rows])
    loss, leaves, _ = torch_loss(x, labels, np.ones(2), inputs_of(bundles.tail.manifest, start))
    true = dict(zip(names, torch.autograd.grad(loss, [leaves[name] for name in names]), strict=True))
    expected = {name: np.zeros(true[name].shape) for name in names}
    for counter in range(3):
        v = {name: signs(unit_key(11, name, 3), counter, expected[name].shape) for name in names}
        d = sum(float(np.vdot(true[name].numpy(), v[name])) for name in names)
        expected = {name: value + d / 3 * v[name] for name, value in expected.items()}
    largest = max(float(np.abs(value).max()) for value in expected.values())
    for name in names:
        assert found[0][name] == pytest.approx(expected[name], abs=0.01 * largest)


def test_a_board_learns_with_it(bundles: SplitBundles) -> None:
    """The loss falls in a round with the tail, and the factors below the operator are among what is learned."""
    start, settings = _start(bundles), TrainSettings(steps=6, batch=8, learning_rate=0.02)

    (done, _), served = beside(
        bundles.tail,
        start,
        settings,
        lambda channel: train_front(Runner(bundles.shallow), start, _rows(8), settings, channel, SplitSettings()),
    )

    assert served.problems == []
    assert set(done.adapter.lora) == {"layer.0", "layer.1"}
    assert done.losses[-1] < 0.9 * done.losses[0]


@pytest.mark.parametrize(
    ("borders", "mode", "said"),
    [
        (
            (AFTER - 1, AFTER),
            "train-forward",
            rf"front of gate to end at unit {AFTER} .*GridSample .*--split gate={AFTER}",
        ),
        (
            (AFTER, AFTER),
            "train",
            rf"GridSample .*the tail goes on at unit {AFTER} .*give gate, barn --mode train-forward",
        ),
    ],
    ids=["a border before it", "a front that goes back"],
)
def test_refused_with_the_front_that_would_do(tmp_path: Path, borders: tuple[int, int], mode: str, said: str) -> None:
    """A tail that would go back through the operator is refused by operator, node and the border behind it."""
    with pytest.raises(NoGradientRule, match=said):
        split_bundles(tmp_path / "out", str(sampled(tmp_path / "sampled.onnx")), borders=borders, mode=mode)
