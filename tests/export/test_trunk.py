"""Exports whose trunk is apart: where they are cut, and what a board computes over a cache of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from console.progress import progress
from devices.memory import MIB
from devices.plan import Board
from devices.trunk import TRUNKS
from edge import load
from edge.trunk import keep
from export.pipeline import ExportRequest, export_model, steps_of
from tests.edge.test_gradients import random_adapter
from wire.adapter import Adapter
from wire.bundle import open_bundle
from wire.keys import new_key

pytestmark = pytest.mark.heavy
TEXTS = ["a red cat sat", "the dog ran under the tree .", "mat", "blue trees sat on the mat", "dogs running ."]


@pytest.fixture(scope="module")
def bundles(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model in one segment, with its trunk apart, and as the planner chooses."""
    boards = tuple(Board(trunk, 200 * MIB, "train", "fp32", 2, trunk=trunk) for trunk in TRUNKS)
    key, out = new_key("publisher", "tester"), tmp_path_factory.mktemp("trunk")
    request = ExportRequest(str(bert_folder), "feature-extraction", ("a", "b", "c"), boards, key, out, sequence=9)
    with progress("exporting", steps_of(request), quiet=True) as bar:
        return {made.folder.name: made.folder for made in export_model(request, bar)}


def test_the_cut_lies_below_the_lowest_slot(bundles: dict[str, Path]) -> None:
    """The lower blocks are a segment without slots and backward graph, and only what a block hands on crosses."""
    plain, apart = (open_bundle(bundles[trunk], None).manifest for trunk in ("within", "apart"))
    assert (len(plain.segments), len(apart.segments)) == (1, 2)
    below, above = apart.segments
    assert (below.slots, [graph.kind for graph in below.graphs]) == ((), ["forward"])
    assert above.slots == plain.segments[0].slots
    assert above.differentiable == ()
    crossing = {t.name: t.shape for t in above.graphs[0].inputs if t.name in below.outputs}
    assert (apart.plan.micro_batch, 9, 32) in crossing.values()
    assert len(crossing) <= 2
    assert apart.plan.predicted_bytes <= plain.plan.predicted_bytes


def test_the_planner_chooses_it_where_it_costs_no_memory(bundles: dict[str, Path]) -> None:
    """With the choice left to it, it cuts as if asked: the same micro-batch, no higher peak."""
    chosen, asked = (open_bundle(bundles[trunk], None).manifest for trunk in ("auto", "apart"))
    assert chosen.plan.cuts == asked.plan.cuts


@pytest.mark.parametrize(("exact", "bound"), [(True, 1e-5), (False, 2e-2)], ids=["float32", "float16"])
def test_a_cached_trunk_trains_like_the_whole_model(
    bundles: dict[str, Path], tmp_path: Path, *, exact: bool, bound: float
) -> None:
    """Loss, gradients and features over the cache are those of the bundle in one segment, made and found."""
    plain, apart = (load(bundles[trunk]).runner for trunk in ("within", "apart"))
    adapter = random_adapter(plain.manifest)
    adapter = Adapter(apart.manifest.model.id, "0" * 64, adapter.lora, heads=adapter.heads)
    trunk = keep(apart.chain, tmp_path / "rows", 1 << 20, exact=exact)
    chosen = [(k, k % 3) for k in range(len(TEXTS))]
    expected = plain.gradients(plain.ready(TEXTS, training=True), adapter, chosen)
    ready = apart.ready(TEXTS, training=True)

    for _ in range(2):
        found = apart.gradients(ready, adapter, chosen)
        assert found.loss == pytest.approx(expected.loss, rel=bound)
        assert found.by_input.keys() == expected.by_input.keys()
        for name, gradient in expected.by_input.items():
            np.testing.assert_allclose(
                found.by_input[name], gradient, atol=bound * np.abs(gradient).max(), err_msg=name
            )
    features = plain.forward(TEXTS, adapter).features
    np.testing.assert_allclose(apart.forward(TEXTS, adapter).features, features, atol=bound * np.abs(features).max())

    kept = trunk.kept()
    assert (kept.rows, kept.hits) == (5, 10)
