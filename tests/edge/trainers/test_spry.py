from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from console.errors import BadData
from edge.trainers.adam8 import Adam8
from edge.trainers.directions import size
from edge.trainers.interface import Factors, Optimizer, Rows, Scalars, Stepped
from edge.trainers.spry import Spry, average_units, deal, estimate, gradient, rebuild, shared_gradient
from tests.edge.trainers.problems import Arrays, Problem, flat, net, quadratic, same_bytes
from wire.adamw import Hyperparameters
from wire.directions import Pairs, combined
from wire.optimizers import Adam32, Sgd
from wire.philox import key_of, signs

KEY = key_of("round", 1)


def estimated(problem: Problem, directions: int, first: int = 0, epsilon: float = 1e-3) -> Arrays:
    """One estimate of the gradient at the start."""
    spry = Spry(KEY, problem.units, directions=directions, epsilon=epsilon)
    counters = range(first, first + directions)
    pairs, _ = estimate(problem.loss, problem.start, problem.units, KEY, 0, counters, epsilon)
    return gradient(pairs, spry, problem.start)


@pytest.mark.parametrize("directions", [8, 32])
@pytest.mark.parametrize("make", [net, quadratic])
def test_the_cosine_is_what_theory_says(make: Callable[[], Problem], directions: int) -> None:
    """The mean cosine with the true gradient is sqrt(directions / parameters), to 20 %."""
    problem = make()
    true = flat(problem.gradient(problem.start))
    found = []
    for trial in range(30):
        g = flat(estimated(problem, directions, trial * directions))
        found.append(float(g @ true / np.linalg.norm(g) / np.linalg.norm(true)))
    theory = np.sqrt(directions / size(problem.units, problem.start))
    assert np.mean(found) == pytest.approx(theory, rel=0.2)


@pytest.mark.parametrize("make", [net, quadratic])
def test_the_estimate_is_unbiased(make: Callable[[], Problem]) -> None:
    """The mean of many estimates is the gradient: what is left is what the variance of so many leaves, to a third."""
    problem, many = make(), 3000
    true = flat(problem.gradient(problem.start))
    off = np.linalg.norm(flat(estimated(problem, many)) - true) / np.linalg.norm(true)
    assert off == pytest.approx(np.sqrt((len(true) - 1) / many), rel=1 / 3)


def test_a_derivative_is_that_along_the_direction() -> None:
    """d is the true gradient times the signs of the stream, to 1e-4 of their scale."""
    problem = net()
    true = flat(problem.gradient(problem.start))
    pairs, mean = estimate(problem.loss, problem.start, problem.units, KEY, 3, [5, 9], 1e-3)
    for counter, d in pairs:
        v = flat(combined(KEY, 3, [(counter, 1.0)], problem.units, problem.start))
        assert set(v.tolist()) == {-1.0, 1.0}
        assert d == float(np.float32(d))
        assert d == pytest.approx(float(true @ v), abs=1e-4 * float(np.linalg.norm(true)))
    assert mean == pytest.approx(problem.loss(problem.start), rel=1e-2)


def test_signs_lie_along_the_stream_as_the_text_says() -> None:
    """A unit's stream is keyed by round, unit and board, and runs through its arrays in the order of their names."""
    like = {"b": np.zeros((2, 3), np.float32), "a": np.zeros(4, np.float32), "c": np.zeros(5, np.float32)}
    made = combined(KEY, 2, [(7, 1.0)], {"one": ["b", "a"], "two": ["c"]}, like)
    one = signs(key_of(f"{KEY:032x}", "one", 2), 7, (10,))
    assert np.array_equal(made["a"], one[:4])
    assert np.array_equal(made["b"], one[4:].reshape(2, 3))
    assert np.array_equal(made["c"], signs(key_of(f"{KEY:032x}", "two", 2), 7, (5,)))


def trained(spry: Spry, problem: Problem, steps: int = 40, begun: Stepped | None = None) -> Stepped:
    """What some steps leave, from the start or from where others ended."""
    stepped = begun or Stepped(dict(problem.start), spry.begin(problem.start), 0.0)
    for _ in range(steps):
        stepped = spry.step(stepped.arrays, stepped.state, Rows(loss=problem.loss))
    return stepped


OPTIMIZERS: list[Optimizer] = [
    Sgd(0.05),
    Sgd(0.02, 0.9),
    Adam32(Hyperparameters(0.02, 0.9, 0.99, weight_decay=0.01)),
    Adam8(Hyperparameters(0.02, 0.9, 0.99)),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_pairs_rebuild_the_arrays_bit_for_bit(optimizer: Optimizer) -> None:
    """From start, settings and pairs alone come the bytes that the board has; twelve bytes for each direction."""
    problem = net()
    spry = Spry(KEY, problem.units, board=1, directions=4, optimizer=optimizer, publish="scalars")
    end = trained(spry, problem)
    update = spry.update(end.arrays, end.state)
    assert isinstance(update, Scalars)
    assert end.loss is not None
    assert end.loss < 0.9 * problem.loss(problem.start)
    assert same_bytes(rebuild(spry, problem.start, update), end.arrays)
    assert not same_bytes(rebuild(replace(spry, board=2), problem.start, update), end.arrays)
    assert [counter for counter, _ in update.pairs] == list(range(160))
    assert all(d == float(np.float32(d)) for _, d in update.pairs)


@pytest.mark.parametrize("publish", ["factors", "scalars"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_a_restart_in_the_middle_ends_with_the_same_bytes(
    optimizer: Optimizer, publish: Literal["factors", "scalars"], tmp_path: Path
) -> None:
    """Arrays and state that went through a file of arrays go on as if nothing had happened."""
    problem = net()
    spry = Spry(KEY, problem.units, directions=3, optimizer=optimizer, publish=publish)
    whole, half = trained(spry, problem, 12), trained(spry, problem, 5)
    kept = {"arrays": half.arrays, "state": half.state}
    for name, part in kept.items():
        save_file(part, tmp_path / name)
    arrays, state = (load_file(tmp_path / name) for name in kept)
    end = trained(spry, problem, 7, Stepped(arrays, state, half.loss))
    assert same_bytes(end.arrays, whole.arrays)
    assert same_bytes(end.state, whole.state)


def test_only_the_units_dealt_are_perturbed_and_trained() -> None:
    """A board of one unit leaves the others' bytes alone, even while it measures, and sends its own only."""
    problem = net()
    seen: list[Arrays] = []

    def loss(arrays: Arrays) -> float:
        seen.append(arrays)
        return problem.loss(arrays)

    spry = Spry(KEY, {"upper": problem.units["upper"]}, directions=2)
    stepped = spry.step(problem.start, spry.begin(problem.start), Rows(loss=loss))
    assert len(seen) == 4
    for arrays in (*seen, stepped.arrays):
        assert np.array_equal(arrays["a"], problem.start["a"])
        assert not np.any(arrays["b"] == problem.start["b"])
    update = spry.update(stepped.arrays, stepped.state)
    assert isinstance(update, Factors)
    assert update.names == tuple(update.arrays) == ("b", "b_bias")


def test_units_go_round() -> None:
    """Every unit is held, by as many boards as any other or one more; boards differ by at most one unit."""
    names = [f"unit {i}" for i in range(7)]
    for boards in range(1, 20):
        dealt = deal(names, boards)
        held = [sum(name in units for units in dealt) for name in names]
        assert len(dealt) == boards
        assert min(held) >= 1
        assert max(held) - min(held) <= 1
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_a_shared_gradient_is_the_mean_over_who_held_a_unit() -> None:
    """Two boards of one unit and one of another: each array is the mean of those boards' estimates, to rounding."""
    problem = quadratic()
    boards = [Spry(KEY, {u: problem.units[u]}, board=b) for b, u in enumerate(["first", "second", "first"])]
    sent: list[tuple[Spry, Pairs]] = [(spry, [(0, 1.5 + spry.board), (1, -0.5)]) for spry in boards]
    alone = [gradient(pairs, spry, problem.start) for spry, pairs in sent]
    made = shared_gradient(sent, problem.start)
    assert made.keys() == {"x", "y"}
    np.testing.assert_allclose(made["x"], (alone[0]["x"] + alone[2]["x"]) / 2, rtol=1e-6)
    np.testing.assert_allclose(made["y"], alone[1]["y"], rtol=1e-6)


def test_per_iteration_boards_stay_together() -> None:
    """Three boards that step by each other's pairs hold the same bytes as a hub that saw no data, and learn."""
    problem = net()
    dealt = deal(sorted(problem.units), 3)
    boards = [Spry(KEY, {u: problem.units[u] for u in units}, board=b, directions=4) for b, units in enumerate(dealt)]
    optimizer = Adam32(Hyperparameters(0.02))
    places = [dict(problem.start) for _ in range(4)]  # the last is the hub's
    states = [optimizer.begin(problem.start) for _ in places]
    for t in range(30):
        sent: list[tuple[Spry, Pairs]] = []
        for spry, arrays in zip(boards, places, strict=False):
            counters = range(t * 4, t * 4 + 4)
            sent.append((spry, estimate(problem.loss, arrays, spry.units, KEY, spry.board, counters, 1e-3)[0]))
        for i, arrays in enumerate(places):
            places[i], states[i] = optimizer.apply(arrays, states[i], shared_gradient(sent, arrays))
    assert all(same_bytes(arrays, places[0]) for arrays in places)
    assert problem.loss(places[0]) < 0.8 * problem.loss(problem.start)


def test_per_epoch_units_are_averaged_over_who_held_them() -> None:
    """Units that several boards trained are their weighted mean; one that nobody trained stays as it was."""
    problem = quadratic()
    boards = [Spry(KEY, {"first": ["x"]}, board=b, directions=8, optimizer=Sgd(0.01)) for b in range(2)]
    sent = []
    for spry in boards:
        end = trained(spry, problem, 5)
        update = spry.update(end.arrays, end.state)
        assert isinstance(update, Factors)
        sent.append(update)
    made = average_units(sent, [3, 1], problem.start)
    np.testing.assert_allclose(made["x"], 0.75 * sent[0].arrays["x"] + 0.25 * sent[1].arrays["x"], rtol=1e-6, atol=1e-7)
    assert not np.array_equal(sent[0].arrays["x"], sent[1].arrays["x"])
    assert np.array_equal(made["y"], problem.start["y"])


@pytest.mark.parametrize("found", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_one_sentence(found: float) -> None:
    """The step is refused; arrays and state that were given still stand, so it is undone already."""
    problem = quadratic()
    spry = Spry(KEY, problem.units)
    with pytest.raises(BadData, match=f"expected a finite loss along direction 0, found {found}; lower"):
        spry.step(problem.start, spry.begin(problem.start), Rows(loss=lambda arrays: found))


def test_without_a_forward_graph_it_says_so() -> None:
    """Rows that have no loss are one sentence."""
    problem = quadratic()
    spry = Spry(KEY, problem.units)
    with pytest.raises(BadData, match="expected a forward graph"):
        spry.step(problem.start, spry.begin(problem.start), Rows())
