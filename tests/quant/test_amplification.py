from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from quant.amplification import (
    HIGH,
    ROUNDED_SIZES,
    SIZES,
    Amplification,
    changes,
    growth,
    noised,
    summed,
    without_rounding,
)
from quant.int8 import dequantize_rows, quantize_rows
from tests.quant.nodes import gaussian

DRAWS = 60


def measured(
    f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, sizes: tuple[float, ...] = SIZES
) -> list[Amplification]:
    """Amplification of a function of rows in float64."""
    out = []
    for size in sizes:
        noisy = [noised(x, size, "test", draw) for draw in range(DRAWS)]
        out.append(summed(size, np.concatenate([changes(f(x), f(n)) / changes(x, n) for n in noisy])))
    return out


def test_noise_has_the_size_that_was_asked_for() -> None:
    """Every row gets noise of its own length, the same from the same key, another from another, none on zeros."""
    x = (
        np.random.default_rng(0).standard_normal((5, 3, 40)).astype(np.float32)
        * np.array([1, 10, 0.1, 0, 3])[:, None, None]
    )
    e = (noised(x, 0.01, "a", 1) - x).reshape(5, -1)
    lengths = np.linalg.norm(x.reshape(5, -1), axis=1)
    np.testing.assert_allclose(np.linalg.norm(e, axis=1), 0.01 * lengths, rtol=1e-4)
    assert np.array_equal(noised(x, 0.01, "a", 1), noised(x, 0.01, "a", 1))
    assert not np.array_equal(noised(x, 0.01, "a", 1), noised(x, 0.01, "a", 2))
    cosines = e @ e.T / np.maximum(np.outer(*[np.linalg.norm(e, axis=1)] * 2), 1e-300)
    assert (
        np.abs(cosines - np.eye(5) * np.diag(cosines)).max() < 0.4
    )  # rows of 120 numbers that know nothing of each other


def test_a_linear_map_amplifies_as_its_singular_values_say() -> None:
    """Of y = W x it is |W|_F / sqrt(n) times |x| / |W x|, and at most the largest singular value."""
    rng = np.random.default_rng(1)
    w, x = rng.standard_normal((80, 50)), rng.standard_normal((6, 50))
    singular = np.linalg.svd(w, compute_uv=False)
    per_row = np.linalg.norm(x, axis=1) / np.linalg.norm(x @ w.T, axis=1)
    expected = math.sqrt(float((singular**2).sum()) / 50) * per_row
    for size in SIZES:
        noisy = [noised(x, size, "svd", draw) for draw in range(DRAWS)]
        each = np.array([changes(x @ w.T, n @ w.T) / changes(x, n) for n in noisy])
        np.testing.assert_allclose(np.median(each, axis=0), expected, rtol=0.03)
        assert (each <= singular[0] * per_row * (1 + 1e-9)).all()
        assert (each >= singular[-1] * per_row * (1 - 1e-9)).all()
    one = measured(lambda r: r @ w.T, x[:1])[0]
    assert one.median < one.high <= singular[0] * per_row[0]


def test_one_net_against_itself_does_not_grow() -> None:
    """The ratio of a net to itself is one, whatever it does, also where it does nothing."""

    def net(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.tanh(x @ gaussian(20, 20).astype(np.float64)) + 0.1)

    x = np.random.default_rng(2).standard_normal((4, 20))
    found = growth(measured(net, x), measured(net, x))
    assert (found.ratio, found.passes) == (1.0, True)
    silent = measured(np.ones_like, x)
    assert growth(silent, silent).ratio == 1.0


def test_a_coarse_quantizer_is_flagged_and_a_fine_one_is_not() -> None:
    """Small weights that a coarse step makes larger amplify more, by as much; those of int8 by rows do not."""
    rng = np.random.default_rng(3)
    small = np.sign(rng.standard_normal((30, 29)))
    w = np.hstack([np.full((30, 1), 100.0), 0.6 * small])
    x = np.hstack([np.full((4, 1), 5.0), rng.standard_normal((4, 29))])
    coarse = np.round(w)  # steps of one: 0.6 becomes 1
    fine = np.hstack([w[:, :1], dequantize_rows(*quantize_rows(w[:, 1:]))])

    def net(weight: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        # the large weights cancel, as in a difference of two rows
        return lambda r: r @ (weight - weight[:, :1] * (np.arange(30) == 0)).T + 50.0

    exact = measured(net(w), x)
    assert growth(exact, measured(net(fine), x)).passes
    found = growth(exact, measured(net(coarse), x))
    assert not found.passes
    assert math.isclose(found.ratio, 1 / 0.6, rel_tol=0.05)


def test_a_variant_that_amplifies_on_few_samples_is_flagged_by_the_quantile() -> None:
    """One sample in eight amplified three times leaves the median alone; the 95 % quantile tells."""
    x = np.random.default_rng(4).standard_normal((8, 30))
    factor = np.where(np.arange(8) == 5, 3.0, 1.0)[:, None]
    base = x.copy()
    exact, variant = measured(lambda r: base + (r - base), x), measured(lambda r: base + (r - base) * factor, x)
    found = growth(exact, variant)
    assert variant[0].median / exact[0].median < 1.05
    assert (found.high, found.passes) == (True, False)
    assert 2.5 < found.ratio < 3.5


def test_rounding_of_activations_is_told_apart() -> None:
    """An 8-bit input looks like amplification at small noise; without what rounding adds it is fp32's, as is known."""
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((8, 400)), gaussian(60, 400).astype(np.float64)
    step = 2 * np.abs(x).max() / 255

    def net(gain: float, step: float = 0.0) -> list[Amplification]:
        def f(r: np.ndarray) -> np.ndarray:
            return np.asarray(300.0 + gain * ((np.round(r / step) * step if step else r) @ w.T))

        return measured(f, x, ROUNDED_SIZES)

    exact, variant = net(1.0), net(1.0, 2.5 * step)
    assert not growth(exact, variant).passes
    found = growth(exact, variant, rounded=True)
    assert found.ratio == pytest.approx(1.0, abs=0.05)
    # rounding to s is an error of s / sqrt(12) per entry, redrawn by the noise: sqrt(2) of it, through W
    moved = 2.5 * step / math.sqrt(6) * np.linalg.norm(w) / np.linalg.norm(300.0 + x @ w.T, axis=1)
    assert without_rounding(variant)[1] == pytest.approx(float(np.median(moved)), rel=0.25)
    assert without_rounding(exact)[1] < 0.1 * float(np.median(moved))
    # what truly amplifies is still seen
    assert growth(exact, net(1.5, 2.5 * step), rounded=True).ratio == pytest.approx(1.5, abs=0.1)


def test_what_has_no_length_has_no_figure() -> None:
    """Zeros give NaN, NaN and infinity give infinity; where rows are not samples, the whole is one figure."""
    found = changes([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]], [[1.0, 0.0], [3.0, np.nan], [np.inf, 0.0]])
    assert np.isnan(found[0])
    assert list(found[1:]) == [np.inf, np.inf]
    assert changes([[3.0], [4.0]], [[3.0], [4.5]], by_row=False).tolist() == [0.1]
    assert changes(2.0, 2.5).tolist() == [0.25]


def test_the_gate_is_never_passed_by_nan() -> None:
    """A figure that is no number is not within any bar; what cannot be compared is a mistake."""
    one, broken = Amplification(0.01, 1.0, 1.0), Amplification(0.01, float("nan"), 1.0)
    assert not growth([one], [broken]).passes
    with pytest.raises(ValueError, match=r"noise of the same sizes, found \[0.01\] and \[0.1\]"):
        growth([one], [Amplification(0.1, 1.0, 1.0)])
    with pytest.raises(ValueError, match="same sizes"):
        growth([], [])
    with pytest.raises(ValueError, match="of two sizes, the larger one last"):
        growth([one], [one], rounded=True)
    pair = [Amplification(size, 1.0, 1.0) for size in ROUNDED_SIZES]
    assert not growth(pair, [Amplification(size, float("nan"), 1.0) for size in ROUNDED_SIZES], rounded=True).passes
    with pytest.raises(ValueError, match="at least one sample"):
        summed(0.01, [])
    assert summed(0.01, np.arange(101.0)).high == 100 * HIGH
