"""What the methods promise and fail at, on a planted adapter of rank 8 with boards of rank 2, 4, 8 and 16."""

from __future__ import annotations

import pytest

from bench.planted import planted
from hub.aggregation.methods import METHODS, method_of


@pytest.mark.parametrize("seed", range(5))
def test_unequal_boards_learn_a_planted_adapter(seed: int) -> None:
    """The default's error is at most .12 after 10 rounds and .03 after 30, and it falls."""
    errors = planted(method_of("stacking"), seed)

    assert errors[9] <= 0.12
    assert errors[29] <= 0.03
    assert errors[29] < errors[9] < errors[0]


@pytest.mark.parametrize("seed", range(2))
def test_the_default_is_far_ahead_of_sums_of_absolute_adapters(seed: int) -> None:
    """After 10 rounds at most half of FlexLoRA's error and a quarter of zero-padding's; theirs rise from 10 to 30."""
    ours, flex, pad, het = (planted(method_of(n), seed) for n in ("stacking", "flexlora", "zero-pad", "hetlora"))

    assert ours[9] <= flex[9] / 2
    assert ours[9] <= pad[9] / 4
    for absolute in (flex, pad, het):
        assert absolute[29] > 1.2 * absolute[9]


@pytest.mark.parametrize("name", ["fedex", "rolora"])
def test_methods_that_keep_what_nobody_trained_go_on_learning(name: str) -> None:
    """FedEx in the rungs and RoLoRA are slower, but their error falls through all rounds with mixed ranks."""
    errors = planted(method_of(name), 0)

    assert errors[29] < 0.3 * errors[9]
    assert errors[29] < 0.1


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("ffa", "nested-ffa")])
def test_boards_of_one_rank_learn_by_every_method_that_trains_both_factors(name: str) -> None:
    """With four boards of rank 8 the error after 30 rounds is below .1: the faults come from unequal ranks."""
    assert planted(method_of(name), 1, ranks=(8, 8, 8, 8))[29] < 0.1


def test_a_frozen_a_cannot_leave_its_span() -> None:
    """With A drawn once, 16 of 64 directions, most of a planted matrix stays out of reach."""
    assert planted(method_of("nested-ffa"), 0, rounds=10)[9] > 0.8
