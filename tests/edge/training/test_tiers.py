"""Tiers of a bundle: what there is, where each starts, and that every machine starts there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from console.errors import BadData, UsageError
from edge.training.tiers import Scaling, column, fitted, offers, scale_of, start
from tests.edge.test_gradients import pictures, random_adapter, rows, runner
from wire.adapter import to_bytes
from wire.files import digest
from wire.kinds.lora import Lora
from wire.philox import key_of


def test_a_bundle_offers_what_it_has_a_place_for(tmp_path: Path) -> None:
    """Two layers of 16 to 5 and 5 to 5 with biases and a head of three classes: counted by hand, small first."""
    manifest = runner(tmp_path, rank=6, biases=True).manifest
    found = [(o.name, o.parameters) for o in offers(manifest)]
    assert found == [
        ("bias", 10),
        ("head", 18),
        ("rank 1 with biases", 41),
        ("rank 2 with biases", 72),
        ("rank 4 with biases", 134),
        ("rank 6 with biases", 196),
    ]
    assert [o.name for o in offers(manifest, ["lora"], 2)] == ["rank 1", "rank 2"]


def test_kinds_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    """An unknown kind, no kind, a rank of 0, and a kind that this bundle has no place for, each by name."""
    manifest = runner(tmp_path).manifest
    for kinds, rank, words in ((["lora", "prompt"], None, "prompt"), ([], None, "none"), (["lora"], 0, "at least 1")):
        with pytest.raises(UsageError, match=words):
            offers(manifest, kinds, rank)
    with pytest.raises(BadData, match="places for bias"):
        offers(manifest, ["bias"])


def test_a_tier_starts_as_the_model_itself(tmp_path: Path) -> None:
    """B and the biases are 0 and A is not, so nothing changes yet and everything can; A's bound is 1 / sqrt(in)."""
    run = runner(tmp_path, biases=True, rank=4)
    begun = start(run.manifest, offers(run.manifest)[-1])
    assert begun.rank == 4
    assert begun.lora["layer.0"].a.shape == (16, 4)
    assert 0.2 < np.abs(begun.lora["layer.0"].a).max() <= 0.25
    np.testing.assert_array_equal(run.forward(pictures(4), begun).features, run.forward(pictures(4)).features)
    found = run.gradients(rows(4), replace(begun, heads=random_adapter(run.manifest).heads)).by_input
    assert all(np.abs(found[name]).max() > 0 for name in ("slot.layer.0.B", "slot.layer.1.B", "slot.layer.1.bias"))


def test_every_machine_starts_alike(tmp_path: Path) -> None:
    """The bytes of a start are these; another seed gives others; a smaller tier is the beginning of a larger one."""
    manifest = runner(tmp_path, rank=4).manifest
    small, large = (next(o for o in offers(manifest) if o.name == name) for name in ("rank 2", "rank 4"))
    assert digest(to_bytes(start(manifest, large)))[:16] == "8caee81ee214d921"
    assert to_bytes(start(manifest, large)) != to_bytes(start(manifest, large, seed=1))
    few, many = start(manifest, small).lora["layer.1"], start(manifest, large).lora["layer.1"]
    np.testing.assert_array_equal(few.a, many.a[:, :2])


def test_entries_of_a_column_are_uniform() -> None:
    """Over 40,000 entries mean, variance and quartiles are those of a uniform distribution, to 4 standard errors."""
    n = 40_000
    drawn = column(key_of("uniform"), 3, n) * np.sqrt(n)
    assert abs(drawn.mean()) < 4 / np.sqrt(3 * n)
    assert abs(drawn.var() - 1 / 3) < 4 * np.sqrt(4 / 45 / n)
    assert np.abs(np.quantile(drawn, [0.25, 0.5, 0.75]) - [-0.5, 0, 0.5]).max() < 4 / np.sqrt(n)


@pytest.mark.parametrize(("scaling", "expected"), [("lora", [16, 8, 4, 1]), ("rslora", [16, 11.313708, 8, 4])])
def test_the_scale_of_a_rank_is_that_of_its_paper(scaling: Scaling, expected: list[float]) -> None:
    """alpha / r, and alpha / sqrt(r), for ranks 1, 2, 4 and 16 and an alpha of 16."""
    assert [scale_of(scaling, r, 16.0) for r in (1, 2, 4, 16)] == pytest.approx(expected)


def test_an_adapter_that_was_begun_goes_on(tmp_path: Path) -> None:
    """At a higher rank its product stays bit for bit, at a lower one it is the best of that rank; its head stays."""
    run = runner(tmp_path)
    begun = random_adapter(run.manifest, rank=3)
    more = start(run.manifest, offers(run.manifest, ["lora"], 5)[-1], begun=begun)
    samples = pictures(5)
    np.testing.assert_allclose(run.forward(samples, more).logits, run.forward(samples, begun).logits, atol=1e-6)
    assert (more.rank, more.heads) == (5, begun.heads)
    np.testing.assert_array_equal(more.lora["layer.0"].b[:3], begun.lora["layer.0"].b)
    fewer = start(run.manifest, offers(run.manifest, ["lora"], 1)[0], begun=begun)
    for name, held in begun.lora.items():
        u, s, vt = np.linalg.svd(held.product())
        np.testing.assert_allclose(fewer.lora[name].product(), s[0] * np.outer(u[:, 0], vt[0]), atol=1e-5)


def test_factors_without_a_product_can_be_cut() -> None:
    """Factors whose product is 0 have no best directions: cut, they have the rank asked for and can still learn."""
    cut = fitted(Lora(np.ones((4, 3), np.float32), np.zeros((3, 2), np.float32), 2.0), 2, 7)
    assert (cut.a.shape, cut.b.shape, np.abs(cut.product()).max()) == ((4, 2), (2, 2), 0.0)
    assert np.linalg.matrix_rank(cut.a) == 2


def test_an_adapter_of_another_model_is_not_gone_on_with(tmp_path: Path) -> None:
    """It is refused, and the sentence names its model."""
    run = runner(tmp_path)
    with pytest.raises(BadData, match="belongs to model other"):
        start(run.manifest, offers(run.manifest)[0], begun=replace(random_adapter(run.manifest), model="other"))
