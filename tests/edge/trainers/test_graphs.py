"""Trainers on the graphs of a real bundle: the interface asks nothing that a runner cannot answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from edge.data import Row
from edge.runner import Runner
from edge.train import TrainSettings, train
from edge.trainers.backprop import Backprop
from edge.trainers.interface import Gradients, Rows, Scalars
from edge.trainers.ridge import Ridge
from edge.trainers.spry import Spry, rebuild
from edge.training.order import batches
from tests.edge.test_gradients import random_adapter, rows, runner
from tests.edge.trainers.problems import Arrays, flat, same_bytes
from wire.adamw import Hyperparameters
from wire.adapter import Adapter
from wire.kinds.lora import Lora
from wire.optimizers import Adam32
from wire.ridge import solve, spectrum
from wire.sums import gather, on_grid, packed, unpacked


def arrays_of(run: Runner, adapter: Adapter) -> dict[str, np.typing.NDArray[np.float32]]:
    """Factors by the names of the graphs' inputs."""
    slots = [(run.manifest.slot(name), lora) for name, lora in adapter.lora.items()]
    return {slot.a: lora.a for slot, lora in slots} | {slot.b: lora.b for slot, lora in slots}


def adapted(run: Runner, adapter: Adapter, arrays: Arrays) -> Adapter:
    """The adapter with these factors."""
    slots = {name: run.manifest.slot(name) for name in adapter.lora}
    lora = {n: Lora(arrays[s.a], arrays[s.b], adapter.lora[n].scale) for n, s in slots.items()}
    return replace(adapter, lora=lora)


def asked(run: Runner, adapter: Adapter, given: Sequence[Row]) -> Rows:
    """What trainers may ask about some rows."""
    labels = np.array([row.label for row in given])
    samples = [row.sample for row in given]

    def loss(arrays: Arrays) -> float:
        logits = run.forward(samples, adapted(run, adapter, arrays)).logits.astype(np.float64)
        logs = logits - logits.max(axis=1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        return -float(np.mean(logs[np.arange(len(labels)), labels]))

    def gradients(arrays: Arrays) -> list[Gradients]:
        sums = run.gradients(given, adapted(run, adapter, arrays))
        return [Gradients(sums.loss, sums.by_input, len(given))]

    def features() -> tuple[np.typing.NDArray[np.float32], np.typing.NDArray[np.float64]]:
        return run.forward(samples, adapter).features, np.eye(len(run.manifest.labels))[labels]

    return Rows(loss, gradients, features)


def test_backpropagation_behind_the_interface_is_that_of_jobs(tmp_path: Path) -> None:
    """Eight steps on batches of four end with the bytes, and the losses, of the train job."""
    run = runner(tmp_path, segments=(1, 1))
    adapter, given = replace(random_adapter(run.manifest), bias={}), rows(10)
    done = train(run, adapter, given, TrainSettings(steps=8, batch=4, learning_rate=0.01, seed=3))

    arrays = arrays_of(run, adapter)
    trainer = Backprop(tuple(arrays), Adam32(Hyperparameters(0.01, 0.9, 0.99)))
    state, losses = trainer.begin(arrays), []
    for chosen in islice(batches(10, 4, 3), 8):
        stepped = trainer.step(arrays, state, asked(run, adapter, [given[i] for i in chosen]))
        arrays, state = stepped.arrays, stepped.state
        losses.append(stepped.loss)
    assert same_bytes(arrays, arrays_of(run, done.adapter))
    assert tuple(losses) == done.losses


def test_forward_gradients_of_a_float32_graph_point_where_gradients_do(tmp_path: Path) -> None:
    """With 16 directions the mean cosine is sqrt(K / P) to 20 %: what float32 rounds off differences is no matter."""
    run = runner(tmp_path, segments=(1, 1))
    adapter, given = random_adapter(run.manifest), rows(8)
    rows_ = asked(run, adapter, given)
    start = arrays_of(run, adapter)
    assert rows_.gradients is not None
    true = flat({n: g for n, g in rows_.gradients(start)[0].by_input.items() if n in start})
    spry = Spry(
        5, {name: [slot.a, slot.b] for name in adapter.lora for slot in [run.manifest.slot(name)]}, directions=16
    )
    found, state = [], spry.begin(start)
    for _ in range(25):
        stepped = spry.step(start, state, rows_)  # always from the start
        state = stepped.state
        moved = flat({n: start[n].astype(np.float64) - stepped.arrays[n] for n in start})
        found.append(float(moved @ true / np.linalg.norm(moved) / np.linalg.norm(true)))
    assert np.mean(found) == pytest.approx(np.sqrt(16 / len(true)), rel=0.2)


def test_forward_gradients_train_and_pairs_rebuild_the_factors(tmp_path: Path) -> None:
    """Forward runs alone lower the loss of a bundle, and a receiver without the bundle gets the same bytes."""
    run = runner(tmp_path, segments=(1, 1))
    adapter = random_adapter(run.manifest)
    rows_, start = asked(run, adapter, rows(8)), arrays_of(run, adapter)
    assert rows_.loss is not None
    units = {name: [slot.a, slot.b] for name in adapter.lora for slot in [run.manifest.slot(name)]}
    spry = Spry(5, units, optimizer=Adam32(Hyperparameters(0.02)), publish="scalars")
    arrays, state = start, spry.begin(start)
    for _ in range(40):
        stepped = spry.step(arrays, state, rows_)
        arrays, state = stepped.arrays, stepped.state
    update = spry.update(arrays, state)
    assert isinstance(update, Scalars)
    assert rows_.loss(arrays) < 0.8 * rows_.loss(start)
    assert same_bytes(rebuild(spry, start, update), arrays)


def test_a_closed_head_is_that_of_all_rows(tmp_path: Path) -> None:
    """Features of a bundle, in two steps, give the head of all rows at once, which tells the classes apart."""
    run = runner(tmp_path)
    adapter, given = random_adapter(run.manifest), rows(12)
    trainer = Ridge(run.head.features, len(run.manifest.labels))
    state = trainer.begin({})
    for part in (given[:5], given[5:]):
        state = trainer.step({}, state, asked(run, adapter, part)).state
    features = on_grid(run.forward([row.sample for row in given], adapter).features, trainer.grid)
    targets = np.eye(len(run.manifest.labels))[[row.label for row in given]]
    assert same_bytes(dict(state), packed(gather(features, targets)))
    weight, bias = solve(spectrum(unpacked(state)), 1e-3)
    design = np.hstack([features.astype(np.float64), np.ones((12, 1))])
    best = design @ np.linalg.lstsq(design, targets, rcond=None)[0]
    assert np.mean((features @ weight + bias - targets) ** 2) <= 1.2 * np.mean((best - targets) ** 2) + 1e-3
