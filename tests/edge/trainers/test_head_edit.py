"""The closed form of a head's edit: against brute force in float64, and against points that it must beat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.trainers.head_edit import least_change, moment, solve


def brute_force(
    x: NDArray[np.float64], t: NDArray[np.float64], known: NDArray[np.float32], spread: float, strength: float
) -> NDArray[np.float64]:
    """The same least squares as one tall system: rows of X, of the data, and of the spread, each with its weight."""
    data, features = known.astype(np.float64), x.shape[1]
    rows = [x, np.sqrt(strength / len(data)) * data, np.sqrt(strength * spread) * np.eye(features)]
    wanted = np.vstack([t, np.zeros((len(data) + features, t.shape[1]))])
    found: NDArray[np.float64] = np.linalg.lstsq(np.vstack(rows), wanted, rcond=None)[0]
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 5), st.integers(1, 30)),
    spread=st.sampled_from([1e-3, 0.1, 3.0]),
    share=st.sampled_from([1e-3, 0.3, 2.0]),
)
def test_it_is_the_least_squares_solution(
    seed: int, shape: tuple[int, int, int, int], spread: float, share: float
) -> None:
    """The two factors multiply to what numpy's least squares finds, with fewer rows than features, or more."""
    k, features, classes, rows = shape
    drawn = np.random.default_rng(seed)
    x, t = drawn.normal(size=(k, features)), drawn.normal(size=(k, classes))
    known = drawn.normal(size=(rows, features)).astype(np.float32)
    m = known.astype(np.float64).T @ known / rows + spread * np.eye(features)
    strength = share * float(np.trace(x @ np.linalg.solve(m, x.T))) / k

    a, b = solve(moment(known), x, t, spread, share)

    assert a.shape == (features, k)
    np.testing.assert_allclose(a @ b, brute_force(x, t, known, spread, strength), atol=1e-7 * np.abs(t).max())


def test_a_small_spread_leaves_what_was_seen_alone() -> None:
    """An input with a part that no row has: the smaller the spread, the less rows move, while its target is met."""
    drawn = np.random.default_rng(1)
    known = drawn.normal(size=(50, 8)).astype(np.float32)
    known[:, 7] = 0.0
    x, t = drawn.normal(size=(1, 8)), np.array([[1.0, -1.0]])
    moved = []
    for spread in (1.0, 1e-3, 1e-6):
        a, b = solve(moment(known), x, t, spread, 0.0)
        np.testing.assert_allclose(x @ a @ b, t, atol=1e-9)
        moved.append(float(np.abs(known @ a @ b).max()))
    assert moved[0] > 2 * moved[1] > 200 * moved[2]


@settings(max_examples=100, deadline=None)
@given(
    logits=st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=7),
    at=st.integers(0, 6),
    margin=st.sampled_from([0.0, 0.5, 2.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_smaller_change_of_logits_will_do(logits: list[float], at: int, margin: float, seed: int) -> None:
    """The label leads by the margin, and by the rule of projections no other point that does is nearer."""
    z, label = np.array(logits, np.float64), at % len(logits)

    change = least_change(z, label, margin)

    others = np.delete(z + change, label)
    assert (z + change)[label] - others.max() >= margin - 1e-9
    drawn = np.random.default_rng(seed)
    for _ in range(20):
        other = z + drawn.normal(size=len(z)) * 3
        other[label] = max(other[label], np.delete(other, label).max() + margin)
        assert float(-change @ (other - z - change)) <= 1e-7 * (1 + float(np.abs(change).max()) ** 2) * 10


def test_one_class_has_nothing_to_lead() -> None:
    """Of a head with one class there is nothing to change."""
    assert least_change(np.array([3.0]), 0, 1.0).tolist() == [0.0]


def test_equal_inputs_are_met_halfway() -> None:
    """Two inputs that are one cannot both have their own target: strength above 0 gives the mean and no error."""
    x, t = np.ones((2, 3)), np.array([[1.0], [3.0]])
    a, b = solve(moment(np.eye(3, dtype=np.float32)), x, t, 0.1, 1e-6)
    np.testing.assert_allclose(x @ a @ b, np.full((2, 1), 2.0), rtol=1e-5)
    with pytest.raises(np.linalg.LinAlgError):
        solve(moment(np.eye(3, dtype=np.float32)), x, t, 0.1, 0.0)
