"""Edits on a small bundle of two segments: rows are mended, others stay, and an edit can be undone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from console.errors import BadData
from edge.data import Row
from edge.trainers.edit import Settings
from edge.trainers.sketch import gradient
from edge.training.edits import _graphs, _held, mend, undone
from tests.edge.bundles import make_weights
from tests.edge.oracle import Oracle, pixels
from tests.edge.test_gradients import pictures, random_adapter, runner
from wire.adapter import Adapter, read_adapter, to_bytes


def test_backward_graphs_of_factors_show_the_gradient_of_the_weight(tmp_path: Path) -> None:
    """Of every slot the product found is torch's gradient of the weight, of a rank up to the rows."""
    run, samples = runner(tmp_path, segments=(1, 1)), pictures(3)
    adapter = random_adapter(run.manifest)
    oracle = Oracle(make_weights(2), adapter)
    rows = [Row(s, i) for i, s in enumerate(samples)]
    labels = np.arange(3)
    graphs = _graphs(run, adapter, rows)
    found = gradient(lambda f: graphs.gradient(f, range(3), labels)[1], _held(run, adapter), 5)
    # of W + s A B the gradient of W is that of a factor B beside A = 1, which torch has at full rank
    for name, (left, right) in found.items():
        own = replace(adapter, lora={**adapter.lora})
        lora = adapter.lora[name]
        eye = np.eye(len(lora.a), dtype=np.float32)
        own.lora[name] = type(lora)(eye, lora.product().astype(np.float32), 1.0)
        expected = Oracle(oracle.weights, own).gradients(pixels(samples), labels)[1][f"slot.{name}.B"]
        np.testing.assert_allclose(left @ right, expected, atol=1e-5 * np.abs(expected).max(), err_msg=name)
        assert left.shape[1] <= 3


def test_rows_are_mended_and_others_stay(tmp_path: Path) -> None:
    """A row with another label than the model gives is right afterwards, and 12 other answers are as they were."""
    run = runner(tmp_path, segments=(1, 1), biases=True)
    adapter, samples = random_adapter(run.manifest, rank=1), pictures(13)
    before = run.forward(samples, adapter).logits.argmax(axis=1)
    wrong, keep = [Row(samples[0], int((before[0] + 1) % 3))], [Row(s, 0) for s in samples[1:]]
    done = mend(run, adapter, wrong, keep, Settings(rank=2, bound=0.0))
    after = run.forward(samples, read_adapter(to_bytes(done.adapter), "the edit")).logits.argmax(axis=1)
    assert after.tolist() == [(before[0] + 1) % 3, *before[1:].tolist()]
    assert (done.adapter.rank, done.adapter.bias.keys()) == (3, adapter.bias.keys())


def test_an_edit_is_undone_by_dropping_it(tmp_path: Path) -> None:
    """After two edits and two undos the adapter is the first one again; a third undo is refused."""
    run, samples = runner(tmp_path), pictures(2)
    first = replace(random_adapter(run.manifest), heads={2: random_adapter(run.manifest).heads[0]})
    before = run.forward(samples, first).logits.argmax(axis=1)
    once = mend(run, first, [Row(samples[0], int((before[0] + 1) % 3))], []).adapter
    again = mend(run, once, [Row(samples[1], int((before[1] + 1) % 3))], []).adapter
    assert undone(again).rank == once.rank
    back = undone(undone(again))
    for name, factors in first.lora.items():
        np.testing.assert_array_equal(back.lora[name].a, factors.a)
        np.testing.assert_array_equal(back.lora[name].b, factors.b)
    np.testing.assert_array_equal(run.forward(samples, back).logits, run.forward(samples, first).logits)
    with pytest.raises(BadData, match="with an edit to undo"):
        undone(back)


def test_an_edit_begins_without_factors(tmp_path: Path) -> None:
    """An adapter that is a head alone gets factors, and undone it is a head alone."""
    run, samples = runner(tmp_path), pictures(1)
    adapter = Adapter("tiny", heads=random_adapter(run.manifest).heads)
    label = int((run.forward(samples, adapter).logits.argmax() + 1) % 3)
    done = mend(run, adapter, [Row(samples[0], label)], [], Settings(rank=1)).adapter
    assert run.forward(samples, done).logits.argmax() == label
    assert (done.rank, undone(done).lora) == (1, {})


def test_an_edit_needs_rows_and_a_head(tmp_path: Path) -> None:
    """No rows, and an adapter without a head: a sentence each."""
    run = runner(tmp_path)
    with pytest.raises(BadData, match="rows to mend, found none"):
        mend(run, random_adapter(run.manifest), [], [])
    with pytest.raises(BadData, match="with a head to mend"):
        mend(run, replace(random_adapter(run.manifest), heads={}), [Row(pictures(1)[0], 0)], [])
