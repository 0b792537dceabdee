"""Importance of weights: both published measures against plain loops and torch, and how much of it moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wire.importance import fedpipe, hsplitlora
from wire.importance.moved import THRESHOLD, beyond, moved
from wire.importance.told import mean_over_steps, sensitivity

positive = st.floats(1e-6, 1e6)


def drawn(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    """Normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def test_the_product_is_the_mean_of_entries() -> None:
    """Gradient times weight is what a loop over all entries finds."""
    w, g = drawn(3, 5), drawn(3, 5, seed=1)
    assert hsplitlora.product(w, g) == pytest.approx(
        sum(abs(w[i, o] * g[i, o]) for i in range(3) for o in range(5)) / 15
    )


@given(st.lists(positive, min_size=1, max_size=20))
def test_the_average_stays_between_what_was_measured(values: list[float]) -> None:
    """An average never leaves the range of its measurements, and the first one is taken as it is."""
    known = hsplitlora.averaged(123.0, values[0], 0)
    assert known == values[0]
    for stage, value in enumerate(values[1:], 1):
        known = hsplitlora.averaged(known, value, stage)
    assert min(values) * (1 - 1e-9) <= known <= max(values) * (1 + 1e-9)


@given(positive, positive, st.integers(0, 1000))
def test_what_fluctuates_counts_more_and_what_comes_late_less(before: float, measured: float, stage: int) -> None:
    """The share of a measurement falls with the stage, rises with its distance, and lies between its bounds."""
    found = hsplitlora.share(before, measured, stage)
    assert hsplitlora.LEAST <= found <= 1
    assert hsplitlora.share(before, measured, stage + 1) <= found
    assert hsplitlora.share(before, before, stage) <= found
    assert hsplitlora.share(before, before + 3 * abs(measured - before), stage) >= found or measured < before


@given(st.lists(positive, min_size=2, max_size=8), positive)
def test_dividing_by_a_cost_may_come_before_or_after_the_average(values: list[float], cost: float) -> None:
    """Averages of measurements per cost are the average per cost."""
    whole = parts = 0.0
    for stage, value in enumerate(values):
        whole = hsplitlora.averaged(whole, value, stage)
        parts = hsplitlora.averaged(parts, value / cost, stage)
    assert hsplitlora.normalised({"w": whole}, {"w": cost})["w"] == pytest.approx(parts, rel=1e-9)


def test_sensitivity_and_uncertainty_follow_their_recursions() -> None:
    """S, U and the score after three measurements are what the formulas give, number by number."""
    s = u = 0.0
    state: fedpipe.Sensed | None = None
    for value in (2.0, 0.5, 3.0):
        state = fedpipe.sensed(state, value)
        s = 0.85 * s + 0.15 * value
        u = 0.85 * u + 0.15 * abs(value - s)
    assert state is not None
    assert float(state.score) == pytest.approx(s * u / (1 - 0.85**3) ** 2)


def test_sensitivities_of_directions_are_those_of_torch() -> None:
    """|w dL/dw| of l, p and q through P diag(l) Q is what torch's own gradients give."""
    torch = pytest.importorskip("torch")
    x, target = torch.tensor(drawn(7, 6, seed=2)), torch.tensor(drawn(7, 4, seed=3))
    of = fedpipe.directions(drawn(6, 4), 3)
    leaves = [torch.tensor(part, requires_grad=True) for part in (of.p, of.values, of.q)]
    p, values, q = leaves
    weight = (p * values) @ q
    weight.retain_grad()
    ((x @ weight - target).tanh() ** 2).sum().backward()
    found = fedpipe.measured(of, weight.grad.numpy())
    for name, leaf in zip("plq", leaves, strict=True):
        np.testing.assert_allclose(found[name], (leaf * leaf.grad).abs().detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 9), (40, 70), (90, 64)])
def test_the_largest_directions_are_those_of_a_full_decomposition(shape: tuple[int, int]) -> None:
    """Where singular values fall off, the largest directions give the best approximation there is."""
    u, _, v = np.linalg.svd(drawn(*shape), full_matrices=False)
    falling = 0.7 ** np.arange(min(shape))
    weight = (u * falling) @ v
    of = fedpipe.directions(weight, 4)
    np.testing.assert_allclose(of.values, falling[:4], rtol=1e-6)
    np.testing.assert_allclose((of.p * of.values) @ of.q, (u[:, :4] * falling[:4]) @ v[:4], atol=1e-5)


def test_the_score_of_a_weight_sums_over_its_directions() -> None:
    """A weight's score is what loops over its triples find."""
    of = fedpipe.directions(drawn(6, 5), 3)
    parts: dict[str, fedpipe.Sensed] = {}
    for seed in range(4):
        found = fedpipe.measured(of, drawn(6, 5, seed=seed))
        parts = {name: fedpipe.sensed(parts.get(name), value) for name, value in found.items()}
    by_hand = 0.0
    for i in range(3):
        by_hand += float(parts["l"].score[i])
        by_hand += sum(float(parts["p"].score[j, i]) for j in range(6)) / 6
        by_hand += sum(float(parts["q"].score[i, j]) for j in range(5)) / 5
    assert fedpipe.score(parts) == pytest.approx(by_hand)


def test_a_direction_that_carries_nothing_adds_nothing() -> None:
    """A board of a higher rank whose further directions are empty says the same as one without them."""
    a, b, ga, gb = drawn(6, 2), drawn(2, 5), drawn(6, 2, seed=1), drawn(2, 5, seed=2)
    wide = [np.hstack([a, drawn(6, 3)]), np.hstack([ga, np.zeros((6, 3))])]
    long = [np.vstack([b, np.zeros((3, 5))]), np.vstack([gb, drawn(3, 5)])]
    assert sensitivity(a, ga, b, gb) == pytest.approx(sensitivity(wide[0], wide[1], long[0], long[1]))
    assert sensitivity(a, ga, b, gb) == pytest.approx(2 * (np.abs(a * ga).mean() + np.abs(b * gb).mean()))


@given(st.dictionaries(st.sampled_from("abcdefg"), positive, min_size=1), positive)
def test_a_scale_moves_nothing(scores: dict[str, float], factor: float) -> None:
    """Importance that shrank everywhere alike did not move; nothing moves by more than 1."""
    assert moved(scores, {name: value * factor for name, value in scores.items()}) == pytest.approx(0, abs=1e-9)
    assert not beyond(scores, scores)
    assert moved({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 5.0}) == 1.0


def test_more_than_the_threshold_is_told_from_as_much() -> None:
    """The test is on more than the threshold."""
    before = {"a": 0.5, "b": 0.5}
    assert not beyond(before, {"a": 0.5 + 0.9 * THRESHOLD, "b": 0.5 - 0.9 * THRESHOLD})
    assert beyond(before, {"a": 0.5 + 1.1 * THRESHOLD, "b": 0.5 - 1.1 * THRESHOLD})


def test_steps_that_did_not_measure_a_slot_do_not_count() -> None:
    """The mean of a slot is over the steps that know it."""
    assert mean_over_steps([]) == {}
    assert mean_over_steps([{"a": 1.0}, {"b": 4.0}, {"a": 2.0}]) == {"a": 1.5, "b": 4.0}
