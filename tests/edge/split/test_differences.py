"""A front without backward graphs learns by differences of its border, against the gradient that its tail returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.data.row import Row
from edge.gradients import Gradients
from edge.runner import Runner
from edge.split.channel import Channel, Note
from edge.split.differences import Differences
from edge.split.front import Front
from edge.split.job import SplitSettings, train_front
from edge.split.parts import part_of
from edge.split.talk import Talk
from edge.split.wish import wish_of
from edge.train import TrainSettings, train
from tests.edge.bundles import make_weights
from tests.edge.oracle import Oracle, pixels
from tests.edge.split.halves import SILENCE_S, Listened, Patient, beside, front_of, whole
from tests.edge.test_gradients import random_adapter, rows
from wire.adapter import Adapter
from wire.bundle import Bundle
from wire.directions import unit_key
from wire.philox import signs

KEY, BOARD = 11, 3
SETTINGS = TrainSettings(steps=20, batch=4, learning_rate=0.03)


def of_torch(bundle: Bundle, adapter: Adapter, given: list[Row]) -> dict[str, np.ndarray]:
    """The gradients of the summed loss, by autograd."""
    oracle = Oracle(make_weights(len(bundle.manifest.segments)), adapter)
    return oracle.gradients(pixels([row.sample for row in given]), [row.label for row in given])[1]


def estimated(bundle: Bundle, depth: int, adapter: Adapter, given: list[Row], directions: int) -> Gradients:
    """What a forward-only front makes of the gradient that its tail returns; the rows are one micro-batch."""
    front, found = front_of(bundle, depth, backward=False), list[Gradients]()
    names = sorted({n for s in front.manifest.slots_of("lora") for n in (s.a, s.b)})

    def act(channel: Channel) -> None:
        talk, look = Talk(channel, SILENCE_S), Differences(KEY, BOARD, names, directions)
        talk.open(wish_of(front.manifest, "", "float32"))
        runner = Runner(front)
        runner.chain = Front(front, talk, differences=look)
        found.append(runner.gradients(given, part_of(front.manifest, adapter)))
        assert look.counter == directions
        channel.send(Note("gone"))

    beside(bundle, adapter, SETTINGS, act)
    return found[0]


@pytest.mark.parametrize("depth", [1, 2])
def test_derivatives_are_those_of_the_whole_model(tmp_path: Path, depth: int) -> None:
    """The estimate is the true gradient's projection on each direction, times the direction, whatever lies behind."""
    bundle = whole(tmp_path)
    adapter, given = random_adapter(bundle.manifest), rows(2)
    true = of_torch(bundle, adapter, given)

    found = estimated(bundle, depth, adapter, given, 3)

    names = sorted(found.by_input)
    assert len(names) == 2 * depth
    expected = {name: np.zeros(true[name].shape) for name in names}
    for counter in range(3):
        v = {name: signs(unit_key(KEY, name, BOARD), counter, true[name].shape) for name in names}
        d = sum(float(np.vdot(true[name], v[name])) for name in names)
        for name in names:
            expected[name] += d / 3 * v[name]
    for name in names:
        assert found.by_input[name] == pytest.approx(expected[name], rel=2e-3, abs=2e-3)


def test_many_directions_find_the_gradient(tmp_path: Path) -> None:
    """The mean over K directions of P parameters is off the true gradient by about sqrt(P / K) of its length."""
    bundle = whole(tmp_path)
    adapter, given = random_adapter(bundle.manifest), rows(2)
    true, count = of_torch(bundle, adapter, given), 1000

    found = estimated(bundle, 1, adapter, given, count).by_input

    flat = np.concatenate([found[name].ravel() for name in sorted(found)])
    goal = np.concatenate([true[name].ravel() for name in sorted(found)])
    off = np.linalg.norm(flat - goal) / np.linalg.norm(goal)
    assert 0 < off < 1.5 * np.sqrt(len(flat) / count)


def _loss(bundle: Bundle, adapter: Adapter, given: list[Row]) -> float:
    oracle = Oracle(make_weights(len(bundle.manifest.segments)), adapter)
    return oracle.gradients(pixels([row.sample for row in given]), [row.label for row in given])[0] / len(given)


@pytest.mark.parametrize("split", [{"mode": "steps"}, {"labels": "stay"}, {"mode": "local"}], ids=str)
def test_a_front_learns_by_forward_passes(tmp_path: Path, split: Mapping[str, Any]) -> None:
    """The loss goes down in the round, and the front's part of it is worth something before the tail as it was."""
    bundle = whole(tmp_path, from_features=True)
    start, given = random_adapter(bundle.manifest), rows(8)
    said = list[Note]()
    told = SplitSettings(coding="int8", **split)

    def act(channel: Channel) -> Any:
        runner = Runner(front_of(bundle, 2, backward=False))
        listened = Listened(channel, said)
        return train_front(runner, start, given, SETTINGS, listened, told, job="r1", silence_s=SILENCE_S)

    (done, talk), tail = beside(bundle, start, SETTINGS, act)

    assert tail.problems == []
    assert done.losses[-1] < 0.8 * done.losses[0]
    assert set(done.adapter.lora) == {"layer.0", "layer.1"}
    learned = replace(start, lora={**start.lora, **done.adapter.lora})
    if told.mode == "steps":
        assert _loss(bundle, learned, given) < 0.9 * _loss(bundle, start, given)
        forth = [note for note in said if note.what == "forth"]
        assert len(forth) == 2 * SETTINGS.steps  # each micro-batch crosses once, whatever the directions
        assert talk.step == SETTINGS.steps == tail.made[0].steps


def test_with_many_directions_it_learns_what_the_whole_learns(tmp_path: Path) -> None:
    """Along many directions factors go where a board that holds everything moves them."""
    bundle, settings = whole(tmp_path), replace(SETTINGS, steps=3, directions=300)
    start, given, exact = random_adapter(bundle.manifest), rows(4), SplitSettings(coding="float32")
    alone = train(Runner(bundle), start, given, settings)

    (done, _), tail = beside(
        bundle,
        start,
        settings,
        lambda channel: train_front(
            Runner(front_of(bundle, 1, backward=False)), start, given, settings, channel, exact
        ),
    )

    assert tail.problems == []
    for name, lora in done.adapter.lora.items():
        moved, found = (one.lora[name].b - start.lora[name].b for one in (alone.adapter, done.adapter))
        assert lora.b.shape == moved.shape
        assert np.vdot(moved, found) > 0.75 * np.linalg.norm(moved) * np.linalg.norm(found)


def test_only_what_learns_is_moved(tmp_path: Path) -> None:
    """A factor that rests comes back to the bit, and no direction is spent on it."""
    bundle, settings = whole(tmp_path), replace(SETTINGS, steps=2, factors="b")
    start = random_adapter(bundle.manifest)

    (done, _), _ = beside(
        bundle,
        start,
        settings,
        lambda channel: train_front(
            Runner(front_of(bundle, 1, backward=False)), start, rows(4), settings, channel, SplitSettings()
        ),
    )

    assert np.array_equal(done.adapter.lora["layer.0"].a, start.lora["layer.0"].a)
    assert not np.array_equal(done.adapter.lora["layer.0"].b, start.lora["layer.0"].b)


def test_a_board_that_computes_for_long_is_not_missed(tmp_path: Path) -> None:
    """It says between directions that it is there, so its steps may take longer than a tail waits."""
    bundle, said = whole(tmp_path), list[Note]()
    start, settings = random_adapter(bundle.manifest), replace(SETTINGS, steps=2)

    def act(channel: Channel) -> Any:
        runner, slow = Runner(front_of(bundle, 1, backward=False)), Listened(Patient(channel), said)
        return train_front(runner, start, rows(4), settings, slow, SplitSettings(), silence_s=0.0)

    (done, _), tail = beside(bundle, start, settings, act)

    assert tail.problems == []
    assert done.session.at == tail.made[0].steps == settings.steps
    busy = [note for note in said if note.what == "busy"]
    assert len(busy) == 4 * settings.directions  # 2 steps of 2 micro-batches
    assert {note.step for note in busy} == {0, 1}


def test_a_side_that_is_no_number_undoes_the_step(tmp_path: Path) -> None:
    """Both halves go back and halve the rate, as with gradients."""
    bundle = whole(tmp_path)
    start, wild = random_adapter(bundle.manifest), replace(SETTINGS, steps=6, learning_rate=1e38)

    (done, talk), tail = beside(
        bundle,
        start,
        wild,
        lambda channel: train_front(
            Runner(front_of(bundle, 1, backward=False)), start, rows(4), wild, channel, SplitSettings(coding="float32")
        ),
    )

    assert tail.problems == []
    assert done.session.undone
    assert talk.step == done.session.at
    assert all(np.isfinite(lora.a).all() for lora in done.adapter.lora.values())
