from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bitsandbytes.functional as bitsandbytes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.trainers.adam8 import BLOCK, Adam8, decode, encode, nearest, state_bytes
from edge.trainers.interface import Arrays
from quant.codes import dynamic_tree
from tests.edge.trainers.problems import Problem, net, quadratic, same_bytes
from wire.adamw import Hyperparameters
from wire.optimizers import Adam32, Sgd

STEPS = 300


def in_float64(problem: Problem, h: Hyperparameters, noise: Callable[[int, Arrays], Arrays]) -> dict[str, Any]:
    """AdamW in float64, by the formulas of its paper."""
    theta = {n: a.astype(np.float64) for n, a in problem.start.items()}
    m = {n: np.zeros(a.shape) for n, a in theta.items()}
    v = {n: np.zeros(a.shape) for n, a in theta.items()}
    for t in range(1, STEPS + 1):
        for n, g in noise(t, problem.gradient(theta)).items():  # type: ignore[arg-type]  # float64 is what is wanted
            m[n] = h.beta1 * m[n] + (1 - h.beta1) * g
            v[n] = h.beta2 * v[n] + (1 - h.beta2) * g * g
            step = m[n] / (1 - h.beta1**t) / (np.sqrt(v[n] / (1 - h.beta2**t)) + h.epsilon)
            theta[n] = theta[n] - h.learning_rate * (step + h.weight_decay * theta[n])
    return theta


def exact(t: int, gradient: Any) -> Any:
    """No noise."""
    return gradient


def noisy(t: int, gradient: Any) -> Any:
    """As much noise as gradient, the same for whoever asks."""
    drawn = np.random.default_rng([7, t])
    return {n: g + np.abs(g) * drawn.normal(size=g.shape) for n, g in sorted(gradient.items())}


def test_the_nets_gradient_is_torchs() -> None:
    """What the other tests measure trainers by: the net's loss falls along its gradient as torch's autograd says."""
    problem = net()
    theirs = {n: torch.from_numpy(a.astype(np.float64)).requires_grad_() for n, a in problem.start.items()}
    drawn = np.random.default_rng(0)  # the rows of the net: the same draws in the same order
    x, labels = drawn.normal(size=(64, 8)), drawn.integers(0, 3, 64)
    rows = torch.from_numpy(x + 1.5 * np.eye(3, 8)[labels])
    logits = torch.tanh(rows @ theirs["a"] + theirs["a_bias"]) @ theirs["b"] + theirs["b_bias"]
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    loss.backward()
    assert problem.loss(problem.start) == pytest.approx(loss.item(), rel=1e-12)
    for n, g in problem.gradient(problem.start).items():
        tensor = theirs[n].grad
        assert tensor is not None
        np.testing.assert_allclose(g, tensor.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("noise", [exact, noisy])
@pytest.mark.parametrize(("make", "bound"), [(quadratic, 0.04), (net, 0.3)])
def test_hundreds_of_steps_end_near_float64(
    make: Callable[[], Problem], bound: float, noise: Callable[[int, Any], Any]
) -> None:
    """300 steps of AdamW in float64 are followed to 4 % of the way gone (a net with flat directions: 30), loss 0.5."""
    problem = make()
    h = Hyperparameters(0.01, 0.9, 0.99, weight_decay=0.01)
    optimizer = Adam8(h)
    arrays, state = dict(problem.start), optimizer.begin(problem.start)
    for t in range(1, STEPS + 1):
        gradients = {n: g.astype(np.float32) for n, g in noise(t, problem.gradient(arrays)).items()}
        arrays, state = optimizer.apply(arrays, state, gradients)
    expected = in_float64(problem, h, noise)
    off = np.sqrt(sum(np.sum((arrays[n] - expected[n]) ** 2) for n in expected))
    gone = np.sqrt(sum(np.sum((problem.start[n] - expected[n]) ** 2) for n in expected))
    assert off <= bound * gone
    first, last, oracle = (problem.loss(a) for a in (problem.start, arrays, expected))
    assert last < 0.8 * first
    assert abs(last - oracle) <= 0.005 * (first - oracle)


def test_small_gradients_in_a_block_of_large_ones_take_no_wild_steps() -> None:
    """Gradients over nine decades in one block: no step is longer than twice what AdamW's longest can be."""
    g = np.logspace(-9, 0, BLOCK).astype(np.float32)
    optimizer = Adam8(Hyperparameters(0.01, 0.9, 0.999))
    arrays = {"a": np.zeros(BLOCK, np.float32)}
    state = optimizer.begin(arrays)
    for _ in range(50):
        before = arrays["a"]
        arrays, state = optimizer.apply(arrays, state, {"a": g})
        assert np.abs(arrays["a"] - before).max() <= 0.02


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("size", [1, BLOCK, BLOCK + 1, 5 * BLOCK])
def test_codes_are_those_of_the_papers_authors(size: int, signed: bool) -> None:
    """Scales are those of bitsandbytes, and no entry is further off: its kernel does not always find the nearest."""
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32) ** 3
    values = values if signed else np.abs(values)
    codes, scales = encode(values, signed=signed)
    tree = bitsandbytes.create_dynamic_map(signed=signed)
    theirs, state = bitsandbytes.quantize_blockwise(torch.from_numpy(values), code=tree, blocksize=BLOCK)
    np.testing.assert_array_equal(scales, state.absmax.numpy())
    mine = np.abs(decode(codes, scales, signed=signed) - values)
    other = np.abs(bitsandbytes.dequantize_blockwise(theirs, state).numpy() - values)
    assert np.all(mine <= other + 1e-6 * np.abs(values).max())
    assert np.mean(codes == theirs.numpy()) >= 0.85


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.booleans(), st.floats(-25, 25))
def test_every_entry_becomes_its_nearest_number(seed: int, size: int, signed: bool, exponent: float) -> None:
    """No number of the tree is nearer to an entry than the one chosen, found by trying all 256."""
    values = (10.0**exponent * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)
    values = values if signed else np.abs(values)
    restored = decode(*encode(values, signed=signed), signed=signed).astype(np.float64)
    for start in range(0, size, BLOCK):
        block = values[start : start + BLOCK].astype(np.float64)
        largest = np.abs(block).max()
        best = np.abs(largest * dynamic_tree(signed).astype(np.float64)[None, :] - block[:, None]).min(axis=1)
        missed = np.abs(restored[start : start + BLOCK] - block) - best
        # an entry above 0 that lies nearest to 0 becomes the smallest number
        assert np.all(missed <= 1e-6 * largest)


@pytest.mark.parametrize("signed", [True, False])
def test_the_quick_way_to_a_code_is_a_search(signed: bool) -> None:
    """At every number and middle, one float32 beside each, and at many drawn ones, codes are those of a search."""
    tree = dynamic_tree(signed)
    middles = (tree[1:] + tree[:-1]) / np.float32(2)
    drawn = np.random.default_rng(0)
    wide = drawn.choice([-1, 1], 100_000) * 10 ** drawn.uniform(-40, 0, 100_000)
    marks = np.concatenate([tree, middles, wide.astype(np.float32), drawn.uniform(-1, 1, 100_000).astype(np.float32)])
    shares = np.concatenate([marks, np.nextafter(marks, np.float32(2)), np.nextafter(marks, np.float32(-2))])
    shares = np.clip(shares if signed else np.abs(shares), -1, 1)
    np.testing.assert_array_equal(nearest(shares, signed=signed), np.searchsorted(middles, shares))


def test_a_second_moment_above_zero_is_never_stored_as_zero() -> None:
    """What is far below its block's largest number is rounded up, so that no step divides by epsilon alone."""
    values = np.array([1.0, 1e-30, 0.0], np.float32)
    assert (encode(values, signed=False)[0] > 0).tolist() == [True, True, False]


@pytest.mark.parametrize("shape", [(3,), (64, 8), (0, 8), (), (384, 16)])
def test_a_state_is_a_quarter_of_that_in_32_bits(shape: tuple[int, ...]) -> None:
    """One byte and a 64th for each moment, any shape; only blocks that are not full cost more."""
    arrays = {"a": np.zeros(shape, np.float32)}
    entries = int(np.prod(shape))
    assert state_bytes(Adam8().begin(arrays)) == 8 + 2 * entries + 8 * -(-entries // BLOCK)
    if entries > BLOCK:
        assert state_bytes(Adam8().begin(arrays)) <= 0.26 * state_bytes(Adam32().begin(arrays))
    made, _ = Adam8().apply(arrays, Adam8().begin(arrays), {"a": np.ones(shape, np.float32)})
    assert made["a"].shape == shape


OPTIMIZERS = [Adam8(), Adam32(), Sgd(), Sgd(momentum=0.9)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_a_step_leaves_what_it_was_given(optimizer: Any) -> None:
    """Arrays and state go on as they were, so a step is undone by forgetting it; without a gradient nothing moves."""
    arrays = {"a": np.ones(300, np.float32), "b": np.ones(3, np.float32)}
    _, state = optimizer.apply(arrays, optimizer.begin(arrays), {"a": np.ones(300, np.float32)})
    copies = {n: a.copy() for n, a in arrays.items()}, {n: a.copy() for n, a in state.items()}
    made, moved = optimizer.apply(arrays, state, {"a": np.full(300, -2, np.float32)})
    assert same_bytes(arrays, copies[0])
    assert same_bytes(state, copies[1])
    assert made.keys() == arrays.keys()
    assert moved.keys() == state.keys()
    assert not np.any(made["a"] == arrays["a"])
    assert np.array_equal(made["b"], arrays["b"])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_is_torchs(momentum: float) -> None:
    """Fifty steps end where torch.optim.SGD ends, to 1e-6."""
    problem = quadratic(60)
    optimizer = Sgd(0.01, momentum)
    arrays, state = dict(problem.start), optimizer.begin(problem.start)
    theirs = {n: torch.from_numpy(a.copy()) for n, a in problem.start.items()}
    reference = torch.optim.SGD(list(theirs.values()), lr=0.01, momentum=momentum)
    for _ in range(50):
        gradients: dict[str, NDArray[np.float32]] = {
            n: g.astype(np.float32) for n, g in problem.gradient(arrays).items()
        }
        arrays, state = optimizer.apply(arrays, state, gradients)
        for n, tensor in theirs.items():
            tensor.grad = torch.from_numpy(gradients[n])
        reference.step()
    for n, tensor in theirs.items():
        np.testing.assert_allclose(arrays[n], tensor.numpy(), rtol=1e-6, atol=1e-7)


def test_moments_of_32_bits_are_adamws() -> None:
    """As an optimizer, `wire.adamw` ends after 30 steps where torch.optim.AdamW ends, to 1e-6."""
    h = Hyperparameters(0.01, 0.9, 0.99, weight_decay=0.1)
    optimizer = Adam32(h)
    arrays = {"a": np.linspace(-1, 1, 20, dtype=np.float32)}
    state = optimizer.begin(arrays)
    theirs = torch.from_numpy(arrays["a"].copy())
    reference = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for t in range(30):
        g = np.random.default_rng(t).standard_normal(20).astype(np.float32)
        arrays, state = optimizer.apply(arrays, state, {"a": g})
        theirs.grad = torch.from_numpy(g)
        reference.step()
    np.testing.assert_allclose(arrays["a"], theirs.numpy(), rtol=1e-5, atol=1e-6)
