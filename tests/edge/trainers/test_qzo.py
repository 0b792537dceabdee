from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from console.errors import BadData
from edge.trainers.interface import Rows, Stepped
from edge.trainers.qzo import Qzo, apply, differences, limit, rebuild, unshrunk
from tests.edge.trainers.problems import Arrays, Problem, same_bytes
from tests.edge.trainers.scaled import scaled_net
from wire.philox import key_of

KEY = key_of("round", 1)
SEEDS = range(5)


def trained(qzo: Qzo, problem: Problem, steps: int, begun: Stepped | None = None) -> Stepped:
    """What some steps leave, from the start or from where others ended."""
    stepped = begun or Stepped(dict(problem.start), qzo.begin(problem.start), None)
    for _ in range(steps):
        stepped = qzo.step(stepped.arrays, stepped.state, Rows(loss=problem.loss))
    return stepped


def descended(problem: Problem, rate: float, steps: int) -> Arrays:
    """Where the true gradient in log |D| leads at the same rate."""
    arrays = dict(problem.start)
    for _ in range(steps):
        slopes = problem.gradient(arrays)
        arrays = {n: (a * np.exp(-rate * slopes[n] * a)).astype(np.float32) for n, a in arrays.items()}
    return arrays


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["int4", "nf4"])
def test_scales_learn_what_backpropagation_teaches_them(kind: str, seed: int) -> None:
    """For each of five seeds, 80 % of what the true gradient gains in as many steps at the same rate is gained."""
    problem = scaled_net(kind, seed)
    qzo = Qzo(KEY, problem.units, rate=0.1)
    end = trained(qzo, problem, 150)
    first, last, best = (problem.loss(a) for a in (problem.start, end.arrays, descended(problem, 0.1, 150)))
    assert first - last >= 0.8 * (first - best)
    for name, start in problem.start.items():
        assert np.array_equal(np.sign(end.arrays[name]), np.sign(start))
        assert not np.array_equal(end.arrays[name], start)


@pytest.mark.parametrize("seed", SEEDS)
def test_wild_losses_do_not_carry_it_away(seed: int) -> None:
    """One loss of thirty is off by a thousand: as it comes it learns in every seed, without clip and bound in none."""
    problem = scaled_net("int4", seed)
    first = problem.loss(problem.start)

    def ended(qzo: Qzo) -> float:
        drawn = np.random.default_rng(seed)

        def wild(arrays: Arrays) -> float:
            return problem.loss(arrays) + (1000 if drawn.random() < 1 / 30 else 0)

        arrays, state = dict(problem.start), qzo.begin(problem.start)
        try:
            for _ in range(150):
                stepped = qzo.step(arrays, state, Rows(loss=wild))
                arrays, state = stepped.arrays, stepped.state
        except BadData:
            return np.inf
        return problem.loss(arrays)

    as_it_comes = Qzo(KEY, problem.units, rate=0.05)
    assert ended(as_it_comes) < first
    with np.errstate(all="ignore"):  # scales beyond float32 are what this is about
        assert ended(replace(as_it_comes, clip=np.inf, largest=np.inf)) > 10 * first


@pytest.mark.parametrize("clip", [0.5, 1.0, 2.0, 3.0])
def test_what_clipping_shrinks_is_undone(clip: float) -> None:
    """For a linear loss, clipped derivatives times signs average to the gradient, less by the share if not undone."""
    drawn = np.random.default_rng(0)
    gradient = drawn.normal(size=200)
    v = drawn.integers(0, 2, (60_000, 200)).astype(np.float32) * 2 - 1
    d = v @ gradient
    seen = np.abs(d).astype(np.float32)
    mean = unshrunk(d, seen, clip) @ v / len(v)
    along = float(mean @ gradient) / float(gradient @ gradient)
    assert along == pytest.approx(1, abs=0.03)
    share = float(np.mean(seen <= limit(seen, clip)))
    assert share == pytest.approx({0.5: 0.383, 1.0: 0.683, 2.0: 0.954, 3.0: 0.997}[clip], abs=0.02)
    most = limit(seen, clip)
    shrunk = float(np.clip(d, -most, most) @ v @ gradient) / len(v) / float(gradient @ gradient)
    assert shrunk == pytest.approx(share, abs=0.03)


def test_a_derivative_is_relative() -> None:
    """d is the slope in log |D| along the signs, whatever the scales' size and sign."""
    problem = scaled_net("int4")
    slopes = problem.gradient(problem.start)
    found, _ = differences(problem.loss, problem.start, Qzo(KEY, problem.units, epsilon=1e-4), range(6))
    like = {n: np.ones_like(a) for n, a in problem.start.items()}
    settings = Qzo(KEY, problem.units)
    for counter, d in enumerate(found):
        one = apply(settings, like, [(counter, 1.0)])  # 2 where the sign is +, 1/2 where it is -
        expected = sum(float(np.sum(np.log2(one[n]) * problem.start[n] * slopes[n])) for n in like)
        assert d == pytest.approx(expected, rel=2e-3, abs=2e-3)


def test_a_step_there_and_back_ends_where_it_began() -> None:
    """Steps of opposite scalars are each other's inverse, to rounding, so scales do not drift towards 0."""
    problem = scaled_net("int4")
    settings = Qzo(KEY, problem.units)
    there = apply(settings, problem.start, [(3, 0.1)])
    back = apply(settings, there, [(3, -0.1)])
    for name, start in problem.start.items():
        np.testing.assert_allclose(back[name], start, rtol=3e-7)
        assert not np.any(there[name] == start)


def test_pairs_rebuild_the_scales_bit_for_bit() -> None:
    """From start, settings and pairs alone come the bytes that the board has; no step moves more than it may."""
    problem = scaled_net("int4")
    qzo = Qzo(KEY, problem.units, board=2, rate=0.5, largest=0.05)
    end = trained(qzo, problem, 30)
    update = qzo.update(end.arrays, end.state)
    assert same_bytes(rebuild(qzo, problem.start, update), end.arrays)
    assert not same_bytes(rebuild(replace(qzo, board=1), problem.start, update), end.arrays)
    assert len(update.pairs) == 120
    once = trained(qzo, problem, 1).arrays
    for name, start in problem.start.items():
        assert np.all(np.abs(np.log(once[name] / start)) <= np.log(1.05) + 1e-6)


def test_a_restart_in_the_middle_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Scales and state that went through a file go on as if nothing had happened, the window of derivatives too."""
    problem = scaled_net("nf4")
    qzo = Qzo(KEY, problem.units, window=10)
    whole, half = trained(qzo, problem, 9), trained(qzo, problem, 4)
    kept = {"arrays": half.arrays, "state": half.state}
    for name, part in kept.items():
        save_file(part, tmp_path / name)
    arrays, state = (load_file(tmp_path / name) for name in kept)
    end = trained(qzo, problem, 5, Stepped(arrays, state, None))
    assert same_bytes(end.arrays, whole.arrays)
    assert same_bytes(end.state, whole.state)
    assert end.state["seen"].shape == (10,)


def test_a_flat_loss_moves_nothing() -> None:
    """Where no direction matters all derivatives are 0, and so are the steps."""
    problem = scaled_net("int4")
    qzo = Qzo(KEY, problem.units)
    stepped = qzo.step(problem.start, qzo.begin(problem.start), Rows(loss=lambda arrays: 1.0))
    assert same_bytes(stepped.arrays, problem.start)
    assert stepped.loss == 1.0


def test_bad_losses_are_one_sentence() -> None:
    """A loss that is not finite, and a bundle without such a graph."""
    problem = scaled_net("int4")
    qzo = Qzo(KEY, problem.units)
    with pytest.raises(BadData, match="expected a finite loss along direction 0, found nan; lower the learning rate"):
        qzo.step(problem.start, qzo.begin(problem.start), Rows(loss=lambda arrays: np.nan))
    with pytest.raises(BadData, match="expected a forward graph whose scales are inputs"):
        qzo.step(problem.start, qzo.begin(problem.start), Rows())
