"""Heads from sums: each way is what another library makes of the pooled rows, under any split and in any order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid

from console.errors import UsageError
from hub.making import heads, versions
from tests.hub.world import World
from wire import ridge
from wire.discriminant import UNSEEN_BIAS
from wire.kinds.head import Head, Statistics, gather
from wire.sums import mean_square, of_classes

CLASSES, FEATURES = 5, 9
MakeWorld = Callable[..., World]


def rows(seed: int, count: int = 200) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows of unequal classes, away from 0, some directions wider than others."""
    g = np.random.default_rng(seed)
    classes = g.choice(CLASSES, size=count, p=np.array([6, 4, 3, 2, 1]) / 16)
    means = 2 * g.standard_normal((CLASSES, FEATURES)) + 3
    wide = np.linspace(0.3, 3, FEATURES)
    return (means[classes] + wide * g.standard_normal((count, FEATURES))).astype(np.float32), classes


def nothing() -> Statistics:
    """Sums over no rows."""
    return Statistics(np.zeros(CLASSES), np.zeros((CLASSES, FEATURES)), np.zeros((FEATURES, FEATURES)))


@given(seed=st.integers(0, 999), boards=st.integers(1, 8), by_class=st.booleans(), order=st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_ridge_of_the_sums_is_ridge_of_the_rows(seed: int, boards: int, by_class: bool, order: int) -> None:
    """Boards may hold any rows, one class only too, and come in any order: the solution is the pooled one to 1e-9."""
    features, classes = rows(seed)
    g = np.random.default_rng(seed)
    owner = classes % boards if by_class else g.integers(0, boards, len(classes))
    total = nothing()
    for board in g.permutation(boards):
        total = total + gather(features[owner == board], classes[owner == board], CLASSES)
    pooled = of_classes(gather(features, classes, CLASSES))
    mu = 0.1 * mean_square(pooled)

    found, wanted = ridge.solve(ridge.spectrum(of_classes(total)), mu, order), _iterated(features, classes, mu, order)

    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-9, atol=1e-9 * np.abs(wanted[0]).max())
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-9, atol=1e-9)


def _iterated(
    features: NDArray[np.float32], classes: NDArray[np.int64], mu: float, order: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Iterated Tikhonov on the centred rows themselves, with no sums and no eigenvectors."""
    x, y = features.astype(np.float64), np.eye(CLASSES)[classes]
    centred, target = x - x.mean(axis=0), y - y.mean(axis=0)
    weight = np.zeros((FEATURES, CLASSES))
    for _ in range(order + 1):
        stacked = np.vstack([centred, np.sqrt(mu) * np.eye(FEATURES)])
        left = np.vstack([target - centred @ weight, np.zeros((FEATURES, CLASSES))])
        weight = weight + np.linalg.lstsq(stacked, left, rcond=None)[0]
    return weight, y.mean(axis=0) - x.mean(axis=0) @ weight


def test_ridge_is_that_of_scikit_learn() -> None:
    """At order 0 the head is scikit-learn's ridge of one-hot targets, times 12."""
    features, classes = rows(1)
    sums = gather(features, classes, CLASSES)

    head = heads.solve(sums, "ridge", 0.1, 0)

    x = features.astype(np.float64)
    other = Ridge(alpha=0.1 * float(np.mean(np.sum(x * x, axis=0)))).fit(x, np.eye(CLASSES)[classes])
    np.testing.assert_allclose(head.weight, 12 * other.coef_.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.bias, 12 * other.intercept_, rtol=1e-4, atol=1e-5)


def test_nearest_is_the_nearest_class_mean() -> None:
    """The head by nearest mean says what scikit-learn's nearest centroid says, for every row."""
    features, classes = rows(2)

    head = heads.solve(gather(features, classes, CLASSES), "nearest", 0.1, 0)

    other = NearestCentroid().fit(features.astype(np.float64), classes)
    np.testing.assert_array_equal(_says(head, features), other.predict(features.astype(np.float64)))


def _says(head: Head, features: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.asarray((features @ head.weight + head.bias).argmax(axis=1), np.int64)


@pytest.mark.parametrize("name", ["lda", "ridge", "nearest"])
def test_a_class_that_nobody_has_is_never_chosen(name: str) -> None:
    """Whichever way the head is made, a class without rows has weight 0 and a bias below all others."""
    features, classes = rows(3)
    keep = classes != 1

    head = heads.solve(gather(features[keep], classes[keep], CLASSES), name, 0.1, 0)

    assert not head.weight[:, 1].any()
    assert head.bias[1] == UNSEEN_BIAS


def test_a_head_that_does_not_exist_is_refused() -> None:
    """The sentence names those that do."""
    with pytest.raises(UsageError, match="a head among auto, lda, ridge, nearest, found 'magic'"):
        heads.known("magic")


@pytest.mark.parametrize("name", ["lda", "ridge", "nearest", "auto"])
def test_a_round_makes_the_head_that_was_asked_for(make_world: MakeWorld, name: str) -> None:
    """The head of the version is solved from the summed statistics by the name in the recipe; auto says its choice."""
    world = make_world()

    found = world.run("statistics", recipe={"head": name, "head_strength": 0.5, "head_order": 2})

    made = versions.read_made(world.hub.home.ledger.versions()[-1]).version
    head = versions.read_heads(made, world.hub.home.blobs)[0]
    everyone = sorted(world.devices.values(), key=lambda d: d.name)
    pooled = gather(
        np.concatenate([d.features for d in everyone]),
        np.concatenate([d.classes for d in everyone]),
        everyone[0].labels,
    )
    used = {"auto": "nearest"}.get(name, name)  # 48 rows of 3 classes
    wanted = heads.solve(pooled, used, 0.5, 2)
    np.testing.assert_allclose(head.weight, wanted.weight, rtol=1e-4, atol=1e-5)
    assert f"head by {used}" in found["sentence"]
