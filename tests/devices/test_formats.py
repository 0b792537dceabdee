"""The choice of formats against brute force over all of them, and its words when nothing fits."""

from __future__ import annotations

import itertools
import math
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import DoesNotFit, UsageError
from devices.formats import Choice, Layer, Option, choose, kept
from devices.knapsack import Classes, solve

NAMES = ("fp32", "int8", "int4", "nf4")
options = st.builds(
    Option,
    format=st.sampled_from(NAMES),
    stored_bytes=st.integers(0, 40),
    # equal errors, zeros, and errors of very different size
    error=st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(0, 1), st.floats(1e-9, 1e-6)),
    time_ns=st.integers(0, 30),
)
layers_ = st.lists(
    st.builds(Layer, name=st.just("layer"), options=st.lists(options, min_size=1, max_size=4).map(tuple)),
    min_size=1,
    max_size=5,
)


def all_choices(layers: list[Layer]) -> list[Choice]:
    """Every one of them."""
    return [Choice(chosen, 0.0) for chosen in itertools.product(*(layer.options for layer in layers))]


@settings(max_examples=300)
@given(layers_, st.integers(0, 160))
def test_within_bytes_no_choice_has_less_error(layers: list[Layer], limit: int) -> None:
    """The choice is within the limit, brute force finds none better, and the bound says that it is optimal."""
    fitting = [choice.error for choice in all_choices(layers) if choice.stored_bytes <= limit]
    if not fitting:
        with pytest.raises(DoesNotFit, match="but the smallest of all"):
            choose(layers, limit)
        return
    found = choose(layers, limit)
    assert found.stored_bytes <= limit
    assert len(found.options) == len(layers)
    assert all(option in layer.options for option, layer in zip(found.options, layers, strict=True))
    assert math.isclose(found.error, min(fitting), rel_tol=1e-9, abs_tol=1e-15)
    assert math.isclose(found.error, found.least_error, rel_tol=1e-9, abs_tol=1e-15)


@settings(max_examples=300)
@given(layers_, st.integers(0, 160), st.integers(0, 120))
def test_within_bytes_and_time_the_bound_holds(layers: list[Layer], limit: int, limit_ns: int) -> None:
    """It fits whenever brute force finds anything that does, and the best of all lies between bound and error."""
    fitting = [c.error for c in all_choices(layers) if c.stored_bytes <= limit and c.time_ns <= limit_ns]
    if not fitting:
        with pytest.raises(DoesNotFit):
            choose(layers, limit, limit_ns)
        return
    found = choose(layers, limit, limit_ns)
    assert found.stored_bytes <= limit
    assert found.time_ns <= limit_ns
    best = min(fitting)
    assert found.least_error <= best * (1 + 1e-9) + 1e-12
    assert best <= found.error * (1 + 1e-9) + 1e-15


def drawn_model(count: int, seed: int) -> list[Layer]:
    """Layers as a quantizer would measure them: fewer bits, more error, and no format is the fastest everywhere."""
    drawn = np.random.default_rng(seed)
    out = []
    for k in range(count):
        size, sensitive = int(drawn.integers(1_000, 4_000_000)), 10.0 ** drawn.uniform(-3, 1)
        made = [
            Option(
                f"b{bits}",
                size * bits // 8 + int(drawn.integers(0, 99)),
                sensitive * 4.0**-bits,
                int(drawn.integers(1, size)),
            )
            for bits in (4, 5, 6, 8, 16, 32)
        ]
        out.append(Layer(f"layer.{k}", tuple(made)))
    return out


def sums(layers: list[Layer]) -> tuple[Any, Any, Any]:
    """Bytes, error and time of every choice, as arrays."""
    size, error, time = np.zeros(1), np.zeros(1), np.zeros(1)
    for layer in layers:
        size = np.add.outer(size, [o.stored_bytes for o in layer.options]).reshape(-1)
        error = np.add.outer(error, [o.error for o in layer.options]).reshape(-1)
        time = np.add.outer(time, [o.time_ns for o in layer.options]).reshape(-1)
    return size, error, time


def test_two_limits_are_met_closely() -> None:
    """On models of six layers the error is mostly the least of all; the bound is true, and the best of any price."""
    excess = []
    for seed in range(20):
        layers = drawn_model(6, seed)
        size, error, time = sums(layers)
        limit = int(np.quantile(size, 0.4))
        error, time = error[size <= limit], time[size <= limit]
        limit_ns = int(np.quantile(time, 0.4))
        found, best = choose(layers, limit, limit_ns), float(np.min(error[time <= limit_ns]))
        # no price from a long list gives a better bound
        prices = np.geomspace(1e-6, 1e3, 400) * float(np.max(error)) / limit_ns
        bounds = [float(np.min(error + price * (time - limit_ns))) for price in prices]
        assert max(bounds) * (1 - 1e-9) <= found.least_error <= best * (1 + 1e-9)
        excess.append(found.error / best)
    assert np.mean(np.array(excess) < 1 + 1e-9) >= 0.6
    assert np.median(excess) < 1.001
    assert np.max(excess) < 4


def test_the_choice_is_exact_where_bytes_and_errors_go_together() -> None:
    """Hard ones: what saves about as many bytes costs about as much error, and greed is almost never right."""
    greedy = 0
    for seed in range(20):
        drawn = np.random.default_rng(seed)
        layers = []
        for k in range(9):
            sizes = drawn.integers(1000, 2000, 3)
            made = (Option("x", int(s), (2000 - int(s)) * (1 + 0.01 * drawn.random())) for s in sizes)
            layers.append(Layer(f"{k}", tuple(made)))
        size, error, _ = sums(layers)
        limit = 9 * 1450 if np.min(size) <= 9 * 1450 else int(np.min(size))
        best = float(np.min(error[size <= limit]))
        assert math.isclose(choose(layers, limit).error, best, rel_tol=1e-12)
        weights, costs = (
            [[f(o) for o in layer.options] for layer in layers]
            for f in (attrgetter("stored_bytes"), attrgetter("error"))
        )
        rough = solve(Classes.of(weights, costs), limit, most_sums=1)
        assert rough is not None
        greedy += rough.cost > best * (1 + 1e-12)
    assert greedy > 10


def test_large_models_are_chosen_for_exactly() -> None:
    """Three hundred layers of different sizes: optimal by its own bound, and better than one format for all."""
    layers = drawn_model(300, 1)
    limit = sum(layer.options[2].stored_bytes for layer in layers)
    found = choose(layers, limit)
    assert found.stored_bytes <= limit
    assert math.isclose(found.error, found.least_error, rel_tol=1e-9)
    assert found.error < 0.5 * sum(layer.options[2].error for layer in layers)
    both = choose(layers, limit, int(0.9 * found.time_ns))
    assert found.error < both.error < 1.05 * both.least_error


def test_more_bytes_never_cost_error() -> None:
    """The error falls as the limit rises, from the smallest formats to the best ones."""
    layers = drawn_model(12, 2)
    least, most = (sum(f(o.stored_bytes for o in layer.options) for layer in layers) for f in (min, max))
    errors = [choose(layers, int(limit)).error for limit in np.linspace(least, most, 30)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(errors))
    assert errors[0] == math.fsum(layer.options[0].error for layer in layers)
    assert errors[-1] == math.fsum(layer.options[-1].error for layer in layers)


def test_an_answer_of_fewer_sums_comes_with_a_true_bound() -> None:
    """When sums are dropped for want of room, the cost is that of a choice and the bound is below the optimum."""
    for seed in range(20):
        drawn = np.random.default_rng(seed)
        weights = drawn.integers(1000, 2000, (14, 3)).tolist()
        costs = (3000.0 - np.array(weights) + drawn.random((14, 3))).tolist()
        classes = Classes.of(weights, costs)
        exact, rough = solve(classes, 14 * 1500), solve(classes, 14 * 1500, most_sums=3)
        assert exact is not None
        assert rough is not None
        assert exact.bound == exact.cost
        assert rough.bound <= exact.cost <= rough.cost
        assert sum(w[j] for w, j in zip(weights, rough.chosen, strict=True)) <= 14 * 1500


def test_layers_are_kept_as_asked() -> None:
    """The last pattern that matches decides; other layers keep all their formats."""
    layers = drawn_model(12, 3)
    fixed = kept(layers, {"layer.*": "b8", "layer.1?": "b32"})
    assert [layer.options[0].format for layer in fixed] == ["b8"] * 10 + ["b32"] * 2
    assert kept(layers, {"layer.3": "b4"})[4] == layers[4]


def test_what_cannot_be_kept_is_named_at_once() -> None:
    """Patterns without a layer and formats that a layer cannot take are one sentence."""
    layer = Layer("head", (Option("int8", 1, 0.0), Option("fp32", 4, 0.0)))
    with pytest.raises(UsageError, match="tail matches none of 1 layers; head cannot be nf4, only int8, fp32"):
        kept([layer], {"tail": "int8", "h*": "nf4"})


def test_what_does_not_fit_is_said_with_what_would() -> None:
    """The smallest bytes, or the fastest time within them, are in the sentence."""
    layers = [Layer("a", (Option("fp32", 400, 0.0, 10), Option("int8", 100, 0.1, 3_000_000)))]
    with pytest.raises(DoesNotFit, match=r"\(99 bytes\), but the smallest of all 1 layers take .* \(100 bytes\)"):
        choose(layers, 99)
    with pytest.raises(DoesNotFit, match=r"within 1.000 ms .* the bytes take 3.000 ms; give more time or more bytes"):
        choose(layers, 100, 1_000_000)
    assert choose(layers, 400, 1_000_000).formats == ("fp32",)


def test_no_layers_are_an_empty_choice() -> None:
    """A model without anything to quantize stores nothing and loses nothing."""
    found = choose([], 0, 0)
    assert (found.formats, found.stored_bytes, found.error, found.time_ns) == ((), 0, 0.0, 0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.0])
def test_errors_that_are_no_numbers_are_refused(wrong: float) -> None:
    """A measurement that failed is no reason to prefer a format."""
    with pytest.raises(ValueError, match="expected an error of int8 at the layer a"):
        choose([Layer("a", (Option("int8", 1, wrong),))], 10)
    with pytest.raises(ValueError, match="expected formats for the layer a, found none"):
        choose([Layer("a", ())], 10)
