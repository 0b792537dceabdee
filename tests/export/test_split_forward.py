"""Fronts without backward graphs: what their bundles hold, and that differences find what the whole model's do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.data.row import Row
from edge.runner import Runner
from edge.split.job import SplitSettings, train_front
from edge.train import TrainSettings
from tests.edge.split.halves import beside
from tests.edge.test_gradients import random_adapter
from tests.export.split_case import LABELS, WIDTH, SplitBundles, split_bundles


@pytest.fixture(scope="module", params=["fp32", "int8-dynamic"])
def bundles(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> SplitBundles:
    """An MLP: two fronts that run forward only, and the tail."""
    return split_bundles(tmp_path_factory.mktemp("forward") / "out", quant=request.param, mode="train-forward")


def test_fronts_run_forward_and_the_tail_goes_back(bundles: SplitBundles) -> None:
    """A front has one graph for each segment and says which gradients come back; the tail has all that a tail has."""
    for front in bundles.fronts:
        manifest = front.manifest
        assert manifest.plan.mode == "train-forward"
        assert [[g.kind for g in s.graphs] for s in manifest.segments] == [["forward"]]
        assert manifest.split is not None
        assert manifest.split.borders[0].gradients == manifest.split.borders[0].tensors
    assert all("backward" in {g.kind for g in s.graphs} for s in bundles.tail.manifest.segments)


def test_differences_are_held_to_the_gradient_of_the_whole(bundles: SplitBundles) -> None:
    """The export measures how far differences against the returned gradient are off, and says it."""
    for front in bundles.fronts:
        checks = front.manifest.extra["verified"]
        assert 0 <= checks["difference_error"] <= 0.01
        assert checks["split_error"] <= 1e-5
        assert "gradient_error" not in checks


def test_a_board_learns_with_it(bundles: SplitBundles) -> None:
    """The board's loss goes down in a round with the tail, by the graphs that were shipped."""
    tail, generator = bundles.tail, np.random.default_rng(4)
    start = replace(random_adapter(tail.manifest), model=tail.manifest.model.id)
    given = [Row({"x": generator.normal(size=WIDTH).astype(np.float32)}, i % len(LABELS)) for i in range(8)]
    settings = TrainSettings(steps=6, batch=8, learning_rate=0.02)

    (done, _), served = beside(
        tail,
        start,
        settings,
        lambda channel: train_front(Runner(bundles.deep), start, given, settings, channel, SplitSettings()),
    )

    assert served.problems == []
    assert set(done.adapter.lora) == {"layer.0", "layer.1"}
    assert done.losses[-1] < 0.9 * done.losses[0]
