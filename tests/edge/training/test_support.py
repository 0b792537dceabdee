"""What the data support on a real bundle: gradients of single rows, and tiers judged by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from console.errors import BadData
from edge.data import Row
from edge.trainers.admission import effective_of_gradients
from edge.training.classes import Classes
from edge.training.learned import resting
from edge.training.support import (
    Plan,
    coordinates,
    measured_rows,
    preconditioned,
    products,
    row_gradients,
    supported,
    worthwhile_steps,
)
from edge.training.tiers import Offer, Scaling, offers, scale_of, start
from tests.edge.bundles import make_weights
from tests.edge.oracle import Oracle, pixels
from tests.edge.test_gradients import pictures, random_adapter, rows, runner
from wire.manifest import Manifest

PLAN = Plan(rate=1e-2, steps=50, batch=4)


def deep(manifest: Manifest, rank: int | None = None) -> tuple[Offer, ...]:
    """The tiers that are not the head alone."""
    return tuple(o for o in offers(manifest, ("lora", "bias"), rank))


def begun(folder: Path, given: list[Row], scaling: Scaling = "lora", rank: int = 4) -> tuple[Classes, Manifest]:
    """The largest tier at its start, below a head that says something."""
    run = runner(folder, biases=True, rank=rank, segments=(2,))
    adapter = start(run.manifest, deep(run.manifest)[-1], scaling=scaling)
    return Classes(run, replace(adapter, heads=random_adapter(run.manifest).heads), given), run.manifest


def test_gradients_of_single_rows_are_torchs(tmp_path: Path) -> None:
    """Of every row measured the gradients of factors and biases are those of torch's autograd for that row alone."""
    given = rows(5)
    task, _ = begun(tmp_path, given)
    found = row_gradients(task, [0, 3, 4])
    for at, row in enumerate([0, 3, 4]):
        oracle = Oracle(make_weights(2), task.adapter(task.start()))
        expected = oracle.gradients(pixels([given[row].sample]), [given[row].label])[1]
        for name, measured in found.items():
            np.testing.assert_allclose(measured[at], expected[name], atol=1e-5)


def test_arrays_that_rest_are_not_measured(tmp_path: Path) -> None:
    """With B alone the criteria see gradients of B, and a tier has the parameters of B."""
    task, manifest = begun(tmp_path, rows(8))
    rests = {slot.a for slot in manifest.slots_of("lora")}
    alone = supported(task, manifest, offers(manifest, ("lora",), factors="b"), replace(PLAN, factors="b"))

    assert rests & set(row_gradients(task, [0]))
    assert not rests & set(row_gradients(task, [0], resting(manifest, "b")))
    most = max(judged.tier.parameters for judged in alone.admission.judged)
    assert most == sum(s.features_out for s in manifest.slots_of("lora")) * 4


@pytest.mark.parametrize("scaling", ["lora", "rslora"])
def test_one_measurement_serves_all_tiers(tmp_path: Path, scaling: Scaling) -> None:
    """The products of a smaller tier's gradients are those that a task of that tier measures, scale included."""
    task, manifest = begun(tmp_path, rows(6), scaling)
    measured = row_gradients(task, range(6))
    for offer in deep(manifest):
        own = start(manifest, offer, scaling=scaling)
        small = Classes(task.runner, replace(own, heads=random_adapter(manifest).heads), rows(6))
        flat = np.concatenate([g.reshape(6, -1) for g in row_gradients(small, range(6)).values()], axis=1)
        found = products(measured, manifest, offer, deep(manifest)[-1], scaling)
        np.testing.assert_allclose(found, flat.astype(np.float64) @ flat.T, rtol=1e-4, atol=1e-6, err_msg=offer.name)
    assert scale_of(scaling, 4) != scale_of(scaling, 1)


def test_products_are_all_that_effective_parameters_need() -> None:
    """From inner products alone the count is that of the gradients themselves."""
    gradients = np.random.default_rng(0).normal(size=(12, 40)) * np.geomspace(1, 100, 40)
    found = coordinates(gradients @ gradients.T)
    assert effective_of_gradients(found, 3.0) == pytest.approx(effective_of_gradients(gradients, 3.0), rel=1e-6)


def test_gradients_are_measured_where_adam_descends() -> None:
    """A gradient ten times as steep is ten and not a hundred times as large in products; one that is 0 stays 0."""
    one = np.random.default_rng(1).normal(size=(50, 1)).astype(np.float32)
    found = preconditioned(np.hstack([one, 10 * one, 0 * one]), 16)
    assert np.sum(found[:, 1] ** 2) / np.sum(found[:, 0] ** 2) == pytest.approx(10, rel=1e-4)
    assert np.abs(found[:, 2]).max() == 0


def test_more_rows_support_larger_tiers(tmp_path: Path) -> None:
    """Of the same kind of rows a few support no tier, more support a small one, and many the largest."""
    run = runner(tmp_path, biases=True, rank=4, segments=(2,))
    adapter = replace(start(run.manifest, deep(run.manifest)[-1]), heads=random_adapter(run.manifest).heads)
    found = []
    for count in (4, 30, 1200):
        task = Classes(run, adapter, rows(count))
        found.append(supported(task, run.manifest, deep(run.manifest), PLAN))
    sizes = [0 if s.offer is None else s.offer.parameters for s in found]
    assert sizes[0] < sizes[1] < sizes[2], [s.sentences for s in found]
    assert sizes[0] == 0
    assert sizes[2] == deep(run.manifest)[-1].parameters
    assert "declined" in found[0].sentences[1]
    assert found[0].sentences[-1].startswith("Train nothing: expected at least")
    assert found[2].sentences[0] == "Measured on gradients of 64 of 1,200 rows."
    assert found[2].risk < found[1].risk


def test_forward_passes_need_more_steps(tmp_path: Path) -> None:
    """With directions instead of gradients the same tiers are declined for lack of steps, and the sentence says so."""
    task, manifest = begun(tmp_path, rows(1200))
    few = supported(task, manifest, deep(manifest), replace(PLAN, directions=1))
    assert few.offer is None or few.offer.parameters < deep(manifest)[-1].parameters
    assert "steps, found time for 50" in few.sentences[1]


def test_no_gradients_are_no_measurement(tmp_path: Path) -> None:
    """Below a head of zeros every gradient is 0, which supports nothing: it is refused, not admitted."""
    run = runner(tmp_path, rank=2)
    task = Classes(run, start(run.manifest, deep(run.manifest)[-1]), rows(8))
    with pytest.raises(BadData, match="found 0 at every row"):
        supported(task, run.manifest, deep(run.manifest), PLAN)


def test_rows_are_measured_within_bounds(tmp_path: Path) -> None:
    """At most 64 rows, drawn by the seed and never one twice; of a chain 16."""
    task, manifest = begun(tmp_path, rows(100))
    chosen = measured_rows(task, manifest, 0)
    assert len(set(chosen)) == 64
    assert chosen != measured_rows(task, manifest, 1)
    chain = replace(manifest, segments=manifest.segments * 2)
    assert len(measured_rows(task, chain, 0)) == 16


def test_steps_that_are_worthwhile_grow_with_rows_that_agree() -> None:
    """Where gradients point one way descent is worth more steps with more rows; where they cancel it is worth one."""
    drawn = np.random.default_rng(2)
    agree = drawn.normal(size=(60, 8)) + 0.8
    cancel = np.concatenate([agree - agree.mean(axis=0)])
    few, many = (worthwhile_steps(agree, rows, replace(PLAN, rate=1e-3, steps=10_000)) for rows in (60, 6000))
    assert 1 < few < many
    assert worthwhile_steps(cancel, 60, PLAN) == 1


def test_pictures_that_are_alike_show_one_parameter(tmp_path: Path) -> None:
    """Rows that are copies of two have gradients of two kinds: less than two parameters are effective."""
    two = pictures(2)
    task, manifest = begun(tmp_path, [Row(two[i % 2], i % 2) for i in range(40)])
    found = supported(task, manifest, deep(manifest), PLAN)
    assert found.offer is not None
    assert found.effective < 1
