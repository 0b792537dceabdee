"""The head from sums: the same under every split, and the same as another library makes of the pooled rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from wire import discriminant
from wire.kinds.head import Statistics, gather

CLASSES, FEATURES = 6, 12


def rows(seed: int, count: int = 300) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows of unequal classes with a full covariance."""
    g = np.random.default_rng(seed)
    mix = g.standard_normal((FEATURES, FEATURES))
    classes = g.choice(CLASSES, size=count, p=np.array([5, 4, 3, 2, 1, 1]) / 16)
    means = 3 * g.standard_normal((CLASSES, FEATURES))
    return (means[classes] + g.standard_normal((count, FEATURES)) @ mix + 20).astype(np.float32), classes


@given(seed=st.integers(0, 999), boards=st.integers(1, 8), by_class=st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_head_of_the_sums_is_the_head_of_the_rows(seed: int, boards: int, by_class: bool) -> None:
    """Rows split over any boards, at random or by class, in any order, give the head of the pooled rows to 1e-9."""
    features, classes = rows(seed)
    g = np.random.default_rng(seed)
    owner = classes % boards if by_class else g.integers(0, boards, len(classes))
    total = Statistics(np.zeros(CLASSES), np.zeros((CLASSES, FEATURES)), np.zeros((FEATURES, FEATURES)))
    for board in g.permutation(boards):
        mine = owner == board
        total = total + gather(features[mine], classes[mine], CLASSES)

    (weight, bias), (pooled, pooled_bias) = (
        discriminant.solve64(total),
        discriminant.solve64(gather(features, classes, CLASSES)),
    )

    np.testing.assert_allclose(weight, pooled, rtol=1e-9, atol=1e-9 * np.abs(pooled).max())
    np.testing.assert_allclose(bias, pooled_bias, rtol=1e-9, atol=1e-9 * np.abs(pooled_bias).max())


@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_agrees(seed: int) -> None:
    """scikit-learn's discriminant with the same shrinkage, its prior taken out, has our weights and biases."""
    features, classes = rows(seed)
    shrinkage = FEATURES / (len(classes) + FEATURES)
    other = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, tol=0.0)
    other.fit(features.astype(np.float64), classes)

    weight, bias = discriminant.solve64(gather(features, classes, CLASSES))

    found = features.astype(np.float64) @ weight + bias
    wanted = features.astype(np.float64) @ other.coef_.T + other.intercept_ - np.log(other.priors_)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6 * np.abs(wanted).max())


def test_the_head_is_scaled_so_that_it_can_be_trained_against() -> None:
    """Weights and biases are 0.3 of the discriminant's."""
    features, classes = rows(0)
    statistics = gather(features, classes, CLASSES)
    weight, bias = discriminant.solve64(statistics)

    head = discriminant.solve(statistics)

    np.testing.assert_allclose(head.weight, 0.3 * weight, rtol=1e-6)
    np.testing.assert_allclose(head.bias, 0.3 * bias, rtol=1e-6)
    assert head.weight.dtype == head.bias.dtype == np.float32


def test_a_class_without_rows_is_never_chosen() -> None:
    """A class that no board has gets weight 0, a bias below every logit, and no say in the others."""
    features, classes = rows(1)
    keep = classes != 2
    head = discriminant.solve(gather(features[keep], classes[keep], CLASSES))
    others = discriminant.solve(
        gather(features[keep], np.where(classes[keep] > 2, classes[keep] - 1, classes[keep]), CLASSES - 1)
    )

    logits = features @ head.weight + head.bias

    assert not head.weight[:, 2].any()
    assert (logits[:, 2] < logits[:, [0, 1, 3, 4, 5]].min()).all()
    np.testing.assert_array_equal(np.delete(head.weight, 2, axis=1), others.weight)


@pytest.mark.parametrize("count", [0, 1, 3], ids=["no row", "one row", "a row per class"])
def test_hardly_any_rows_give_a_finite_head(count: int) -> None:
    """With no spread within classes the head is finite, and right on the rows that there are."""
    g = np.random.default_rng(0)
    features, classes = g.standard_normal((count, FEATURES)).astype(np.float32), np.arange(count)

    head = discriminant.solve(gather(features, classes, CLASSES))

    assert np.isfinite(head.weight).all()
    assert np.isfinite(head.bias).all()
    assert ((features @ head.weight + head.bias).argmax(axis=1) == classes).all()
