from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.trainers.admission import (
    DELTA,
    Tier,
    admit,
    bayes_error,
    best_time,
    effective_of_gradients,
    effective_parameters,
    expected_error,
    forward_steps,
    risk,
    samples_needed,
)
from edge.trainers.spry import Spry, estimate, gradient

TIERS = [Tier("bias", 96, 50), Tier("rank 1", 1536, 100), Tier("rank 4", 6144, 200), Tier("rank 16", 24576, 400)]


@given(st.floats(0.1, 1e6), st.floats(0.01, 0.49))
def test_the_samples_needed_are_the_fewest_admitted(effective: float, delta: float) -> None:
    """With so many the Bayes error is at least 1/2 - delta, and with a hundredth less it is not."""
    needed = samples_needed(effective, delta)
    assert bayes_error(risk(effective, needed)) >= 0.5 - delta - 1e-6
    fewer = math.floor(needed * 0.99) - 1
    if fewer >= 1 and needed < 6 * effective * 0.999:
        assert bayes_error(risk(effective, fewer)) < 0.5 - delta


@pytest.mark.parametrize("noise", [1.0, 1.6])
def test_the_risk_is_what_fits_really_lose(noise: float) -> None:
    """Least squares on many drawn samples lose p_eff / 2n, also where the noise is not what the model believes."""
    random = np.random.default_rng(0)
    p, n = 12, 400
    mix = random.normal(size=(p, p)) / 3
    shape = mix @ mix.T + np.eye(p)
    effective = effective_parameters(shape, noise**2 * shape)
    assert effective == pytest.approx(p * noise**2)
    root, lost = np.linalg.cholesky(shape), []
    for _ in range(300):
        x = random.normal(size=(n, p)) @ root.T
        off = np.linalg.lstsq(x, noise * random.normal(size=n), rcond=None)[0]
        lost.append(0.5 * off @ shape @ off)  # the divergence between two models of unit variance
    assert np.mean(lost) == pytest.approx(risk(effective, n), rel=0.1)


def test_a_bound_on_the_bayes_error_holds() -> None:
    """Two Gaussians a distance d apart differ by d^2 / 2, and are told apart no better than the bound says."""
    for distance in (0.01, 0.1, 0.5, 1.0, 2.0):
        true = 0.5 * math.erfc(distance / 2 / math.sqrt(2))
        assert bayes_error(distance**2 / 2) <= true


def test_damping_and_absent_directions_leave_fewer_parameters() -> None:
    """Measured from gradients: directions that no sample uses do not count, and damping takes weak ones out."""
    random = np.random.default_rng(0)
    sizes = np.array([3.0, 1.0, 0.1, 0.0, 0.0])
    gradients = random.normal(size=(4000, 5)) * sizes
    covariance = np.diag(sizes**2)
    for damping in (1e-6, 0.01, 1.0):
        expected = effective_parameters(covariance, covariance, damping)
        assert effective_of_gradients(gradients, damping) == pytest.approx(expected, rel=0.03)
    assert effective_of_gradients(gradients, 1e-9) == pytest.approx(3, abs=0.01)
    assert effective_of_gradients(gradients[:3], 1e-12) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_the_expected_error_is_that_of_descent(ratio: float) -> None:
    """Simulated descent on drawn linear tasks has the predicted error at every time, to 15 %."""
    random = np.random.default_rng(1)
    n, signal, noise = 60, 1.0, 0.25
    samples, rate = int(ratio * n), 0.02
    marks = [25, 100, 400, 2000]
    found, predicted = np.zeros(len(marks)), np.zeros(len(marks))
    for _ in range(20):
        x = random.normal(size=(n, samples)) / math.sqrt(n)
        true = random.normal(size=n) * math.sqrt(signal)
        y = true @ x + random.normal(size=samples) * math.sqrt(noise)
        gram, w = x @ x.T, np.zeros(n)
        at = 0
        for i, mark in enumerate(marks):
            for _ in range(mark - at):
                w = w - rate * (gram @ w - x @ y)
            at = mark
            found[i] += np.mean((w - true) ** 2) / 20
        eigenvalues = np.maximum(np.linalg.eigvalsh(gram), 0)
        eigenvalues[eigenvalues < 1e-10] = 0
        predicted += expected_error(rate * np.array(marks, float), eigenvalues, signal, noise) / 20
    np.testing.assert_allclose(found, predicted, rtol=0.15)


def test_the_best_time_has_the_least_error() -> None:
    """No other time of a fine grid is better by more than rounding of the grid; noise makes it shorter."""
    eigenvalues = np.random.default_rng(0).uniform(0, 2, 40)
    best = {}
    for noise in (0.1, 1.0, 10.0):
        best[noise] = best_time(eigenvalues, 1.0, noise)
        least = expected_error(np.geomspace(1e-3, 1e4, 20_000), eigenvalues, 1.0, noise).min()
        assert expected_error(np.array([best[noise]]), eigenvalues, 1.0, noise)[0] <= least * (1 + 1e-3)
    assert best[0.1] > best[1.0] > best[10.0]


def test_forward_gradients_need_that_many_steps() -> None:
    """On a round bowl the best step along an estimate gains K / (P + K - 1) of what the gradient's does."""
    p, k = 60, 6
    like = {"w": np.random.default_rng(0).normal(size=p).astype(np.float32)}
    gains = []
    for trial in range(300):
        spry = Spry(3, {"u": ["w"]}, directions=k)
        counters = range(trial * k, trial * k + k)
        pairs, _ = estimate(
            lambda a: 0.5 * float(np.sum(a["w"].astype(float) ** 2)), like, spry.units, 3, 0, counters, 1e-3
        )
        g = gradient(pairs, spry, like)["w"].astype(float)
        gains.append((g @ like["w"], g @ g))
    along, size = np.mean(gains, axis=0)
    share = along**2 / size / float(like["w"] @ like["w"])
    assert 1 / share == pytest.approx(forward_steps(1000, p, k) / 1000, rel=0.1)


@pytest.mark.parametrize(
    ("samples", "steps", "expected"),
    [(599, 9999, None), (600, 9999, "bias"), (9600, 9999, "rank 1"), (9600, 99, "bias"), (10**6, 400, "rank 16")],
)
def test_the_largest_tier_that_is_supported_is_chosen(samples: int, steps: int, expected: str | None) -> None:
    """6.25 samples for each parameter and all of a tier's steps, whatever the order of the tiers."""
    for tiers in (TIERS, TIERS[::-1]):
        admission = admit(tiers, samples, steps)
        assert (admission.tier.name if admission.tier else None) == expected
        assert [j.tier.parameters for j in admission.judged] == [24576, 6144, 1536, 96]


def test_effective_parameters_count_where_they_are_known() -> None:
    """A large tier of few effective parameters is admitted; more of them than there are parameters are not counted."""
    large = Tier("rank 16", 24576, 10, effective=150.0)
    assert admit([large], 1000, 10).tier == large
    assert admit([Tier("bias", 10, 1, effective=1e9)], 63, 1).tier is not None
    assert samples_needed(150, DELTA) <= 1000 < samples_needed(24576, DELTA)


def test_it_says_the_numbers() -> None:
    """Each tier is one sentence with what it needs and what was found, and the last says what to do."""
    admission = admit([TIERS[0], TIERS[1], Tier("rank 4", 6144, 200, effective=80.5)], 1000, 150)
    assert admission.sentences == (
        "rank 4 (6,144 parameters, 80.5 of them effective) is declined: it needs 200 steps, found time for 150.",
        "rank 1 (1,536 parameters) is declined: it needs 9,600 samples, found 1,000.",
        "bias (96 parameters) is admitted: it needs 600 samples and 50 steps; its risk is 0.048.",
        "Train bias: the largest of 3 tiers that 1,000 samples and 150 steps support.",
    )
    declined = admit(TIERS[:2], 100, 150)
    assert declined.tier is None
    assert declined.sentences[-1] == (
        "Train nothing: expected at least 600 samples and 50 steps for bias, found 100 and 150; collect more, or fit a "
        "head in closed form."
    )
    assert admit(TIERS[:1], 0, 150).judged[0].risk == math.inf


def test_as_many_samples_as_parameters_is_refused_without_a_guard() -> None:
    """Between 0.7 and 1.4 samples a parameter, without ridge or an early stop, however few are effective."""
    tier = Tier("head", 1000, 1, effective=10.0)
    for samples, fine in [(650, True), (1000, False), (1300, False), (1500, True)]:
        assert (admit([tier], samples, 1, guarded=False).tier is not None) == fine
        assert admit([tier], samples, 1).tier is not None


@pytest.mark.parametrize(("tiers", "delta"), [([], 0.1), (TIERS, 0.5), (TIERS, 0.0)])
def test_no_tiers_and_no_such_delta_are_refused(tiers: list[Tier], delta: float) -> None:
    """A call that cannot be answered says so."""
    with pytest.raises(ValueError, match="expected tiers and a delta between 0 and 1/2"):
        admit(tiers, 10, 10, delta=delta)
