"""Ridge regression in closed form from sums: what it is at every order, and what sums keep."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import Ridge as Reference

from wire.kinds.head import gather as statistics_of
from wire.ridge import choose, error, solve, spectrum
from wire.sums import (
    BLOCK_ROWS,
    Sums,
    exact_rows,
    gather,
    mean_square,
    of_classes,
    on_grid,
    packed,
)

Float64 = NDArray[np.float64]


def drawn(rows: int = 300, features: int = 20, outputs: int = 4, seed: int = 0) -> tuple[NDArray[np.float32], Float64]:
    """Features away from 0 and of unlike size, and noisy linear targets."""
    random = np.random.default_rng(seed)
    x = (random.normal(size=(rows, features)) * 10 ** random.uniform(-1, 0.5, features) + 1.5).astype(np.float32)
    return x, x @ random.normal(size=(features, outputs)) + 0.3 * random.normal(size=(rows, outputs)) + 2


def same(a: Sums, b: Sums) -> bool:
    """The same bytes."""
    return all(x.tobytes() == y.tobytes() for x, y in zip(packed(a).values(), packed(b).values(), strict=True))


def test_without_regularization_it_is_least_squares() -> None:
    """With mu 0 weight and bias are numpy's least squares in float64, to 1e-8."""
    x, y = drawn()
    weight, bias = solve(spectrum(gather(x, y)), 0.0)
    design = np.hstack([x.astype(np.float64), np.ones((len(x), 1))])
    expected = np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(np.vstack([weight, bias]), expected, rtol=1e-8, atol=1e-8)


def test_fewer_rows_than_features_give_the_smallest_solution() -> None:
    """Where many heads fit all rows, mu 0 gives the one of smallest norm, as numpy does."""
    x, y = drawn(rows=8)
    weight, bias = solve(spectrum(gather(x, y), intercept=False), 0.0)
    np.testing.assert_allclose(weight, np.linalg.lstsq(x.astype(np.float64), y, rcond=None)[0], rtol=1e-6, atol=1e-8)
    assert not bias.any()


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("mu", [1e-3, 1.0, 300.0])
def test_order_0_is_ridge(mu: float, intercept: bool) -> None:
    """Weight and bias are those of scikit-learn's Ridge at alpha = mu, which does not regularize the intercept."""
    x, y = drawn()
    weight, bias = solve(spectrum(gather(x, y), intercept), mu)
    reference = Reference(alpha=mu, fit_intercept=intercept).fit(x.astype(np.float64), y)
    np.testing.assert_allclose(weight, reference.coef_.T, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(bias, np.broadcast_to(reference.intercept_, bias.shape), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("order", [0, 1, 2, 7])
@pytest.mark.parametrize("mu", [0.1, 20.0, 5000.0])
def test_orders_are_the_iteration_and_the_series(mu: float, order: int) -> None:
    """B_k is k + 1 rounds of B + M (b - A B) from 0, and the sum of (M R)^i M b."""
    x, y = drawn()
    a, b = x.T.astype(np.float64) @ x, x.T.astype(np.float64) @ y
    m = np.linalg.inv(a + mu * np.eye(len(a)))
    iterated = np.zeros_like(b)
    for _ in range(order + 1):
        iterated = iterated + m @ (b - a @ iterated)
    series = sum(np.linalg.matrix_power(mu * m, i) @ m @ b for i in range(order + 1))
    weight, _ = solve(spectrum(gather(x, y), intercept=False), mu, order)
    np.testing.assert_allclose(weight, iterated, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(weight, series, rtol=1e-6, atol=1e-8)


def test_the_error_of_an_order_keeps_its_bounds() -> None:
    """What is missing to least squares lies between (mu / (l + mu))^(k+1) of it for the largest and the smallest l."""
    x, y = drawn()
    of = spectrum(gather(x, y))
    best, mu = solve(of, 0.0)[0], 30.0
    for order in range(6):
        missing = np.linalg.norm(best - solve(of, mu, order)[0]) / np.linalg.norm(best)
        low, high = ((mu / (of.eigenvalues[at] + mu)) ** (order + 1) for at in (-1, 0))
        assert low * (1 - 1e-9) <= missing <= high * (1 + 1e-9)


def test_a_direction_without_rows_is_left_alone() -> None:
    """A feature that is always the same gets no weight, whatever mu and order."""
    x, y = drawn()
    x[:, 3] = 7
    of = spectrum(gather(x, y))
    assert np.sum(of.eigenvalues == 0) == 1
    for mu in (0.0, 1.0):
        weight, _ = solve(of, mu, 2)
        assert np.all(np.abs(weight[3]) <= 1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 400), min_size=2, max_size=5))
def test_on_a_grid_sums_are_exact_in_any_order(seed: int, sizes: list[int]) -> None:
    """However rows are split over boards, merged and removed, the sums are the same bytes as of the rows at once."""
    x, y = drawn(sum(sizes), 6, 3, seed)
    x, y = on_grid(x, 2.0**-12), np.eye(3)[np.argmax(y, axis=1)]
    assert len(x) <= exact_rows(float(np.abs(x).max()), 2.0**-12)
    ends = np.cumsum([0, *sizes])
    parts = [gather(x[a:b], y[a:b]) for a, b in pairwise(ends)]
    backwards = parts[-1]
    for part in reversed(parts[:-1]):
        backwards = backwards + part
    assert same(backwards, gather(x, y))
    assert same(backwards - parts[0], gather(x[sizes[0] :], y[sizes[0] :]))


def test_off_the_grid_removal_leaves_only_rounding() -> None:
    """Without a grid a head after removal is that of the other rows to 1e-9."""
    x, y = drawn()
    left = gather(x, y) - gather(x[:100], y[:100])
    found, expected = (solve(spectrum(s), 1.0)[0] for s in (left, gather(x[100:], y[100:])))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_sums_are_those_of_a_head() -> None:
    """Statistics that boards send for discriminants give the same sums as rows with one-hot targets."""
    x, y = drawn(50, 5, 3)
    classes = np.argmax(y, axis=1)
    found, expected = of_classes(statistics_of(x, classes, 3)), gather(x, np.eye(3)[classes])
    for name, part in packed(expected).items():
        np.testing.assert_allclose(packed(found)[name], part, rtol=1e-12)


def test_an_error_needs_sums_only() -> None:
    """The mean squared error from sums is that of the rows themselves."""
    x, y = drawn(BLOCK_ROWS + 44)
    weight, bias = solve(spectrum(gather(x, y)), 50.0, 1)
    other, targets = drawn(77, seed=5)
    expected = np.mean((other @ weight + bias - targets) ** 2)
    assert error(gather(other, targets), weight, bias) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("strengths", [(1e-4, 1e-2, 1.0, 100.0), (300.0, 1000.0)])
def test_mu_and_order_are_chosen_on_rows_kept_back(strengths: tuple[float, ...]) -> None:
    """No other pair of the grid has a smaller error on the rows kept back, found by trying all of them on the rows."""
    x, y = drawn(120, 40, 2)
    x, other, y, targets = x[:60], x[60:], y[:60], y[60:]
    train = gather(x, y)
    mus, orders = [s * mean_square(train) for s in strengths], [0, 1, 3]
    of = spectrum(train)

    def judged(mu: float, order: int) -> float:
        weight, bias = solve(of, mu, order)
        return float(np.mean((other @ weight + bias - targets) ** 2))

    chosen = choose(of, gather(other, targets), mus, orders)
    assert judged(*chosen) == pytest.approx(min(judged(mu, order) for mu in mus for order in orders))
    # where even the smallest mu is too large, a higher order makes up for it
    assert chosen[1] > 0 or min(strengths) < 1


@pytest.mark.parametrize("step", [0.3, 0.0, -0.5, 3.0])
def test_a_grid_is_a_power_of_two(step: float) -> None:
    """Any other step would round products."""
    with pytest.raises(ValueError, match="expected a step that is a power of two"):
        on_grid(np.zeros(1, np.float32), step)
