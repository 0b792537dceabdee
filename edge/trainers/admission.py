"""What to train with so many samples and so many steps: the largest tier that both support, or none, with the numbers.

Samples: Sheena, "MLE convergence speed to information projection of exponential family: Criterion for model
dimension and sample size", Statistical Papers 2023, arXiv 2105.08947. What is fitted to n samples lies off the best
model of its kind by a risk R (an expected Kullback-Leibler divergence) that to first order is

    R = p_eff / 2n        p_eff = tr(H^-1 S)        H: Hessian of the loss, S: covariance of the samples' gradients

which is p / 2n where the model is right. By Pinsker's inequality a Bayes classifier tells the two apart with an error
of at least (1 - sqrt(R / 2)) / 2; a tier is admitted where that is at least 1/2 - delta, so n >= p_eff / (16 delta^2).
(Pinsker is the choice made here; the paper's bound may be tighter. With few samples R is larger by 1.15, measured.)
The criterion is about maximum likelihood. Regularization and early stops leave fewer effective parameters: with
damping mu, H + mu I stands for H, and mu = 1 / (rate x steps) is what descent from 0 amounts to.

Steps: Advani and Saxe, "High-dimensional dynamics of generalization error in neural networks", arXiv 1710.03667, have
the test error of a linear model after descent for a time t = rate x steps (`expected_error`). Training for too long
hurts most where there are as many samples as parameters, which is refused without ridge or an early stop.

For heads on frozen features these are theory; for adapters they are rules of thumb.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

DELTA = 0.1
FEW = 6.0  # samples for each effective parameter, below which the second order shows
SECOND_ORDER = 1.15
PEAK = (0.7, 1.4)  # samples for each parameter, between which long training is worst


@dataclass(frozen=True)
class Tier:
    """Something that could be trained.

    Attributes:
        name: as a user knows it: "bias", "head", "rank 4".
        parameters: how many numbers would be trained.
        steps: how many it takes, see `best_time` and `forward_steps`.
        effective: effective parameters where they were measured; else all count.
    """

    name: str
    parameters: int
    steps: int
    effective: float | None = None


@dataclass(frozen=True)
class Judged:
    """A tier against the data.

    Attributes:
        tier: which.
        effective: parameters that count.
        samples: how many it needs.
        risk: R with the samples that are there; what the hub weights updates by is 1 / R.
        problems: why it is declined; empty: it is not.
    """

    tier: Tier
    effective: float
    samples: int
    risk: float
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Admission:
    """The tier to train, if any, all that were judged from large to small, and the same in sentences."""

    tier: Tier | None
    judged: tuple[Judged, ...]
    sentences: tuple[str, ...]


def admit(tiers: Sequence[Tier], samples: int, steps: int, *, delta: float = DELTA, guarded: bool = True) -> Admission:
    """The largest tier that samples and steps support.

    Args:
        tiers: what is offered, at least one.
        samples: to train on, those kept back not among them.
        steps: how many there is time for.
        delta: how far from guessing a Bayes classifier may get, see above; below 1/2.
        guarded: with ridge or an early stop.

    >>> chosen = admit([Tier("bias", 100, 50), Tier("rank 4", 9000, 50)], samples=1000, steps=200)
    >>> chosen.tier.name, chosen.sentences[-1]
    ('bias', 'Train bias: the largest of 2 tiers that 1,000 samples and 200 steps support.')
    """
    if not tiers or not 0 < delta < 0.5:
        raise ValueError(f"expected tiers and a delta between 0 and 1/2, found {len(tiers)} and {delta}")
    ordered = sorted(tiers, key=lambda tier: -tier.parameters)
    judged = tuple(_judged(tier, samples, steps, delta, guarded) for tier in ordered)
    fit = next((j.tier for j in judged if not j.problems), None)
    return Admission(fit, judged, (*map(_sentence, judged), _verdict(fit, judged, samples, steps)))


def risk(effective: float, samples: int) -> float:
    """R, infinite without samples.

    >>> risk(100, 1000), risk(100, 100)
    (0.05, 0.575)
    """
    if samples < 1:
        return math.inf
    return effective / (2 * samples) * (SECOND_ORDER if samples < FEW * effective else 1.0)


def bayes_error(of_risk: float) -> float:
    """The least error with which the fitted model can be told from the best of its kind.

    >>> bayes_error(0.0), bayes_error(0.08), bayes_error(9.0)
    (0.5, 0.4, 0.0)
    """
    return max(0.0, (1 - math.sqrt(of_risk / 2)) / 2)


def samples_needed(effective: float, delta: float = DELTA) -> int:
    """The fewest samples with which the criterion admits so many effective parameters.

    >>> samples_needed(100, 0.1), samples_needed(100, 0.25)
    (625, 115)
    """
    base = effective / (16 * delta**2)
    needed = base if base >= FEW * effective else min(FEW * effective, SECOND_ORDER * base)
    return max(1, math.ceil(round(needed, 6)))


def effective_parameters(hessian: Float64, covariance: Float64, damping: float = 0.0) -> float:
    """tr((H + mu I)^-1 S); both [p, p].

    >>> effective_parameters(np.eye(3), np.eye(3)), effective_parameters(np.eye(3), np.eye(3), 1.0)
    (3.0, 1.5)
    """
    return float(np.trace(np.linalg.solve(hessian + damping * np.eye(len(hessian)), covariance)))


def effective_of_gradients(gradients: NDArray[np.floating], damping: float) -> float:
    """Effective parameters where the covariance of gradients stands for both H and S: sum l / (l + mu).

    Args:
        gradients: [samples, p], one row for each sample. There are at most samples - 1, so take many.
        damping: mu, above 0.

    >>> round(effective_of_gradients(np.array([[1.0, 0.0], [-1.0, 0.0]]), 1.0), 6)
    0.5
    """
    centred = gradients.astype(np.float64) - gradients.mean(axis=0, dtype=np.float64)
    eigenvalues = np.linalg.svd(centred, compute_uv=False) ** 2 / len(gradients)
    return float(np.sum(eigenvalues / (eigenvalues + damping)))


def expected_error(times: Float64, eigenvalues: Float64, signal: float, noise: float) -> Float64:
    """Test error, without the noise of targets, of a linear model after descent from 0 for each time.

    E(t) = 1/N sum_i [s^2 exp(-2 l_i t) + e^2 / l_i (1 - exp(-l_i t))^2], and s^2 where l_i is 0.

    Args:
        times: [times], rate x steps, of descent on half the sum of squares.
        eigenvalues: l [N], of the Gram matrix of features whose variance is 1 / N.
        signal: s^2, variance of the true weights; begun elsewhere than at 0, that of the start added.
        noise: e^2, variance of the targets' noise.

    >>> expected_error(np.array([0.0, 50.0]), np.array([1.0, 0.0]), 1.0, 0.5).round(6).tolist()
    [1.0, 0.75]
    """
    known = eigenvalues > 0
    lt = np.outer(times, eigenvalues)
    learnt = np.expm1(-lt) ** 2 * (noise / np.where(known, eigenvalues, 1.0))
    return np.asarray(np.mean(signal * np.exp(-2 * lt) + np.where(known, learnt, 0.0), axis=1))


def best_time(eigenvalues: Float64, signal: float, noise: float) -> float:
    """The time with the least expected error, to 2 %; divided by the rate it is the number of steps.

    >>> round(best_time(np.array([1.0]), 1.0, 1.0), 1)  # of one eigenvalue it is ln(1 + l s^2 / e^2) / l
    0.7
    """
    largest = float(eigenvalues.max(initial=0))
    if largest <= 0:
        return 0.0
    times = np.geomspace(1e-3, 1e9, 1400) / largest
    return float(times[int(np.argmin(expected_error(times, eigenvalues, signal, noise)))])


def forward_steps(steps: int, parameters: int, directions: int) -> int:
    """How many steps forward gradients need for what gradients do in so many: (P + K - 1) / K as many.

    That is 1 / cos^2 of an estimate from K directions of signs for P parameters (`edge.trainers.spry`), at the best
    rate of either.

    >>> forward_steps(10, 768, 8), forward_steps(10, 1, 1)
    (969, 10)
    """
    return math.ceil(steps * (parameters + directions - 1) / directions)


def _judged(tier: Tier, samples: int, steps: int, delta: float, guarded: bool) -> Judged:
    effective = tier.parameters if tier.effective is None else min(tier.effective, tier.parameters)
    needed = samples_needed(effective, delta)
    problems = []
    if samples < needed:
        problems.append(f"needs {needed:,} samples, found {samples:,}")
    if steps < tier.steps:
        problems.append(f"needs {tier.steps:,} steps, found time for {steps:,}")
    if not guarded and PEAK[0] < samples / max(1, tier.parameters) < PEAK[1]:
        problems.append(
            f"has about as many parameters as there are samples ({samples:,}), where long training overfits most; "
            "use ridge or stop early"
        )
    return Judged(tier, float(effective), needed, risk(effective, samples), tuple(problems))


def _sentence(judged: Judged) -> str:
    tier = judged.tier
    counted = "" if tier.effective is None else f", {judged.effective:,.1f} of them effective"
    what = f"{tier.name} ({tier.parameters:,} parameters{counted})"
    if judged.problems:
        return f"{what} is declined: it {' and '.join(judged.problems)}."
    needs = f"it needs {judged.samples:,} samples and {tier.steps:,} steps"
    return f"{what} is admitted: {needs}; its risk is {judged.risk:.3g}."


def _verdict(fit: Tier | None, judged: tuple[Judged, ...], samples: int, steps: int) -> str:
    if fit is not None:
        of = f"the largest of {len(judged)} tiers" if len(judged) > 1 else "a tier"
        return f"Train {fit.name}: {of} that {samples:,} samples and {steps:,} steps support."
    least = min(judged, key=lambda j: (j.samples, j.tier.steps))
    return (
        f"Train nothing: expected at least {least.samples:,} samples and {least.tier.steps:,} steps for "
        f"{least.tier.name}, found {samples:,} and {steps:,}; collect more, or fit a head in closed form."
    )
