from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.linalg import qr

from quant.items import choose_items


@pytest.mark.parametrize("shape", [(40, 200), (300, 24), (64, 64)])
def test_items_are_the_pivots_of_lapack(shape: tuple[int, int]) -> None:
    """LAPACK's QR with column pivoting takes the same items in the same order, up to the rank."""
    features = np.random.default_rng(0).standard_normal(shape)
    count = min(shape)
    assert choose_items(features, count) == list(qr(features.T, mode="r", pivoting=True)[1][:count])


def test_what_was_seen_is_not_taken_again() -> None:
    """Copies and combinations of chosen items come last, in the order given."""
    base = np.random.default_rng(1).standard_normal((3, 50))
    features = np.concatenate([base, 0.5 * base, base[:1] + base[1:2]])
    chosen = choose_items(features, 7)
    spanned = np.linalg.matrix_rank(features[chosen[:3]])
    assert spanned == 3
    assert chosen[3:] == sorted(chosen[3:])
    assert sorted(chosen) == list(range(7))


def test_a_handful_reaches_what_many_do() -> None:
    """Of 500 items of which few are large, those chosen reach the ranges of all more than the first ones do."""
    drawn = np.random.default_rng(2)
    features = drawn.standard_normal((500, 30)) * np.where(drawn.random((500, 1)) < 0.03, 8, 1)

    def reached(items: list[int]) -> float:
        return float(np.mean(np.abs(features[items]).max(axis=0) / np.abs(features).max(axis=0)))

    assert reached(choose_items(features, 16)) > 0.95
    assert reached(list(range(16))) < 0.8


def test_items_without_features_are_taken_in_order() -> None:
    """All zero: nothing tells them apart."""
    assert choose_items(np.zeros((5, 3)), 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("features", "count", "words"),
    [
        (np.ones((3, 2)), 4, "expected to choose 1 to 3 items, found 4"),
        (np.ones((3, 2)), 0, "found 0"),
        (np.ones((0, 2)), 1, "expected at least one item, found none"),
        (np.ones(3), 1, r"found shape \(3,\)"),
        ([[np.nan, 1.0]], 1, "found NaN or infinity"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(features: npt.ArrayLike, count: int, words: str) -> None:
    """Too few items, none at all, no matrix, NaN: each in words."""
    with pytest.raises(ValueError, match=words):
        choose_items(features, count)
