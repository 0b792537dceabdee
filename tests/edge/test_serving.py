"""Which graph serves: that without slots while nothing is in one; and slots of biases, which count as something."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import BadData, IntegrityError
from edge.runner import Runner
from edge.train import TrainSettings, train
from tests.edge.bundles import MODEL, make_bundle, make_weights
from tests.edge.oracle import Oracle, pixels
from tests.edge.test_gradients import pictures, random_adapter, rows
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.bundle import open_bundle

SEGMENTS = [(2,), (1, 1)]


def runner(folder: Path, **bundle: Any) -> Runner:
    """A runner of a fresh bundle."""
    make_bundle(folder / "bundle", **bundle)
    return Runner(open_bundle(folder / "bundle", None))


@pytest.mark.parametrize("segments", SEGMENTS)
def test_nothing_in_a_slot_is_served_without_slots(tmp_path: Path, segments: tuple[int, ...]) -> None:
    """A head alone, factors of rank 0 and no adapter need no forward graph: it is not even there."""
    run = runner(tmp_path, segments=segments, serve=True)
    full, samples = random_adapter(run.manifest), pictures(3)
    for path in (tmp_path / "bundle").glob("*.forward.*.onnx"):
        path.unlink()
    alone = replace(full, lora={})
    oracle, given = Oracle(make_weights(sum(segments)), alone), pixels(samples)
    for adapter in (alone, replace(full, lora={n: f.prefix(0) for n, f in full.lora.items()})):
        found = run.forward(samples, adapter)
        np.testing.assert_allclose(found.features, oracle.features(given).detach(), atol=1e-6)
        np.testing.assert_allclose(found.logits, oracle.logits(given).detach(), atol=1e-5)
    np.testing.assert_allclose(run.forward(samples).features, oracle.features(given).detach(), atol=1e-6)
    with pytest.raises(IntegrityError, match=r"segment0\.forward"):
        run.forward(samples, full)


@pytest.mark.parametrize("segments", SEGMENTS)
def test_an_adapter_is_served_by_its_slots(tmp_path: Path, segments: tuple[int, ...]) -> None:
    """Factors, or biases alone, reach the output although a graph without slots lies beside."""
    run = runner(tmp_path, segments=segments, serve=True, biases=True)
    full, samples = random_adapter(run.manifest), pictures(3)
    for adapter in (full, replace(full, lora={}), replace(full, bias={})):
        wanted = Oracle(make_weights(sum(segments)), adapter).features(pixels(samples)).detach()
        np.testing.assert_allclose(run.forward(samples, adapter).features, wanted, atol=1e-6)


def test_a_bundle_without_such_graphs_serves_as_before(tmp_path: Path) -> None:
    """Bundles of earlier versions have forward graphs only."""
    run = runner(tmp_path, segments=(1, 1))
    wanted = Oracle(make_weights(2), Adapter(MODEL)).features(pixels(pictures(3))).detach()
    np.testing.assert_allclose(run.forward(pictures(3)).features, wanted, atol=1e-6)


@pytest.mark.parametrize("segments", SEGMENTS)
def test_gradients_of_biases_are_torchs(tmp_path: Path, segments: tuple[int, ...]) -> None:
    """Every bias has its gradient beside those of the factors, summed over rows."""
    run = runner(tmp_path, segments=segments, biases=True)
    adapter, given = random_adapter(run.manifest), rows(5)
    oracle = Oracle(make_weights(sum(segments)), adapter)
    _, expected = oracle.gradients(pixels([r.sample for r in given]), [r.label for r in given])
    found = run.gradients(given, adapter).by_input
    assert found.keys() == expected.keys()
    assert sum(name.startswith("slot.") and name.endswith(".bias") for name in found) == 2
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, atol=1e-5 * np.abs(gradient).max(), err_msg=name)


def test_biases_are_trained(tmp_path: Path) -> None:
    """An adapter of biases alone learns, goes through a file, and is not changed in place."""
    run = runner(tmp_path, segments=(1, 1), biases=True)
    start = replace(random_adapter(run.manifest), lora={})
    before = {name: delta.copy() for name, delta in start.bias.items()}
    done = train(run, start, rows(6), TrainSettings(steps=8, batch=6, learning_rate=0.05, kinds=("bias",)))
    assert done.losses[-1] < done.losses[0]
    for name, delta in before.items():
        np.testing.assert_array_equal(start.bias[name], delta)
        assert np.abs(done.adapter.bias[name] - delta).max() > 1e-3
    back = read_adapter(to_bytes(done.adapter), "it")
    for name, delta in done.adapter.bias.items():
        np.testing.assert_array_equal(back.bias[name], delta)


def test_biases_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Every wrong one is named: a model without such slots, another length, and in a file another shape."""
    plain = runner(tmp_path / "plain", segments=(1,))
    with pytest.raises(BadData, match="the model has no bias slot layer.0"):
        plain.forward(pictures(1), Adapter(MODEL, bias={"layer.0": np.zeros(5, np.float32)}))
    biased = runner(tmp_path / "biased", segments=(1,), biases=True)
    with pytest.raises(BadData, match=r"bias slot layer.0 needs 5 numbers, not \[4\]"):
        biased.forward(pictures(1), Adapter(MODEL, bias={"layer.0": np.zeros(4, np.float32)}))
    data = to_bytes(Adapter(MODEL, bias={"layer.0": np.zeros((2, 2), np.float32)}))
    with pytest.raises(BadData, match=r"layer.0 needs a bias delta \[out\]"):
        read_adapter(data, "it")
