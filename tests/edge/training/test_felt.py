"""What a train job tells of its slots: against torch's gradients of the same steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.train import TrainSettings, train
from edge.trainers.interface import Arrays, Gradients, Rows
from edge.training.felt import STEPS, Felt, sensitivities
from edge.training.order import after
from edge.training.task import Score
from tests.edge.bundles import make_weights
from tests.edge.oracle import Oracle, pixels
from tests.edge.test_gradients import random_adapter, rows, runner
from wire.adapter import Adapter


def test_a_step_is_told_as_torch_finds_it(tmp_path: Path) -> None:
    """The number of every slot is the sum over directions of mean |A dA| and mean |B dB| of the mean loss."""
    run = runner(tmp_path, segments=(1, 1))
    start, given = random_adapter(run.manifest), rows(6)
    (chosen,) = [list(part) for part, _ in zip(after(6, 4, 0, 0), range(1), strict=False)]
    picked = [given[i] for i in chosen]
    _, found = Oracle(make_weights(2), start).gradients(pixels([r.sample for r in picked]), [r.label for r in picked])

    told = train(run, start, given, TrainSettings(steps=1, batch=4, importance=True)).importance

    assert told.keys() == start.lora.keys()
    for name, lora in start.lora.items():
        a, b = np.abs(lora.a * found[f"slot.{name}.A"] / 4), np.abs(lora.b * found[f"slot.{name}.B"] / 4)
        by_hand = sum(float(a[:, i].mean()) + float(b[i].mean()) for i in range(lora.rank))
        assert told[name] == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("asked", [{"trainer": "spry", "directions": 2}, {"importance": False}])
def test_nothing_is_told_where_nothing_was_measured(tmp_path: Path, asked: dict[str, object]) -> None:
    """A job of forward passes, and one that was not asked, tell nothing."""
    run = runner(tmp_path)
    settings = TrainSettings(**{"steps": 2, "batch": 4, "importance": True, **asked})  # type: ignore[arg-type]
    assert not train(run, random_adapter(run.manifest), rows(6), settings).importance


def test_asking_changes_no_bit_of_what_is_learned(tmp_path: Path) -> None:
    """Factors after a job that tells are those after one that does not."""
    run = runner(tmp_path)
    start, given = random_adapter(run.manifest), rows(6)
    made = [train(run, start, given, TrainSettings(steps=4, batch=4, importance=i)).adapter for i in (True, False)]
    for name in start.lora:
        np.testing.assert_array_equal(made[0].lora[name].a, made[1].lora[name].a)
        np.testing.assert_array_equal(made[0].lora[name].b, made[1].lora[name].b)


class _Steps:
    """A task whose gradients are ones, times the number of the step."""

    truncated = 0

    def __init__(self, manifest: object, adapter: Adapter) -> None:
        self.manifest, self._adapter, self.at = manifest, adapter, 0

    def __len__(self) -> int:
        return 1

    def start(self) -> dict[str, np.ndarray]:
        return {}

    def score(self, arrays: Arrays) -> Score | None:
        return None

    def adapter(self, arrays: Arrays) -> Adapter:
        return self._adapter

    def rows(self, chosen: object) -> Rows:
        self.at += 1

        def gradients(arrays: Arrays) -> list[Gradients]:
            return [Gradients(1.0, {n: np.full(a.shape, self.at, np.float32) for n, a in arrays.items()}, 1)]

        return Rows(None, gradients)


def test_the_last_steps_are_told(tmp_path: Path) -> None:
    """Of many steps the mean of the last eight is told."""
    manifest = runner(tmp_path).manifest
    arrays = {n: np.ones((2, 2), np.float32) for slot in manifest.slots_of("lora") for n in (slot.a, slot.b)}
    felt = Felt(_Steps(manifest, random_adapter(manifest)), manifest)
    for _ in range(20):
        made = felt.rows([0]).gradients
        assert made is not None
        made(arrays)
    one = sensitivities(manifest, arrays, {n: np.ones_like(a) for n, a in arrays.items()})
    mean = sum(range(21 - STEPS, 21)) / STEPS
    assert felt.told == pytest.approx({name: mean * value for name, value in one.items()})
