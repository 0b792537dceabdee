from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import BadData
from edge.trainers.adam8 import Adam8
from edge.trainers.backprop import Backprop
from edge.trainers.ghost import clipped, mean_of, norm, passes, scaled_rate
from edge.trainers.interface import Gradients, Rows, Stepped
from tests.edge.trainers.problems import Arrays, net, same_bytes
from wire.adamw import Hyperparameters
from wire.optimizers import Adam32, Sgd


def row_sums(count: int, seed: int) -> list[Gradients]:
    """What single rows give."""
    drawn = np.random.default_rng(seed)
    return [
        Gradients(float(drawn.random()), {"a": drawn.normal(size=(3, 4)).astype(np.float32)}, 1) for _ in range(count)
    ]


def together(parts: list[Gradients]) -> Gradients:
    """Rows as one run of a graph sums them."""
    return Gradients(
        sum(p.loss for p in parts), {"a": np.sum([p.by_input["a"] for p in parts], axis=0)}, sum(p.rows for p in parts)
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_how_a_batch_is_cut_does_not_matter(seed: int, sizes: list[int]) -> None:
    """Ghost batches of any sizes give the mean over all rows, each row with the same weight; none is changed."""
    rows = row_sums(sum(sizes), seed)
    ends = np.cumsum([0, *sizes])
    parts = [together(rows[a:b]) for a, b in pairwise(ends)]
    copies = [p.by_input["a"].copy() for p in parts]
    loss, mean = mean_of(parts)
    assert loss == pytest.approx(np.mean([r.loss for r in rows]))
    np.testing.assert_allclose(mean["a"], np.mean([r.by_input["a"] for r in rows], axis=0), rtol=1e-5, atol=1e-6)
    assert all(np.array_equal(p.by_input["a"], c) for p, c in zip(parts, copies, strict=True))


@pytest.mark.parametrize("most", [0.1, 1.0, 1e6])
def test_clipping_is_torchs(most: float) -> None:
    """Norm and clipped gradients over all arrays are those of torch, to 1e-5; a short gradient keeps its bytes."""
    drawn = np.random.default_rng(0)
    gradients = {n: drawn.normal(size=s).astype(np.float32) for n, s in {"a": (3, 4), "b": (7,)}.items()}
    theirs = [torch.zeros(g.shape, requires_grad=True) for g in gradients.values()]
    for tensor, g in zip(theirs, gradients.values(), strict=True):
        tensor.grad = torch.from_numpy(g.copy())
    expected = float(torch.nn.utils.clip_grad_norm_(theirs, most))
    found, had = clipped(gradients, most)
    assert had == pytest.approx(expected, rel=1e-6)
    for tensor, g in zip(theirs, found.values(), strict=True):
        assert tensor.grad is not None
        np.testing.assert_allclose(g, tensor.grad.numpy(), rtol=1e-5)
    assert norm(found) <= most * (1 + 1e-6)
    assert same_bytes(found, gradients) == (had <= most)


def test_rates_and_passes_follow_the_batch() -> None:
    """Four times the batch has twice the rate, and needs four times the passes for as many steps."""
    assert scaled_rate(0.01, 64, 16) == pytest.approx(0.02)
    assert passes(3, 64, 16) * 1000 / 64 == pytest.approx(3 * 1000 / 16)


@pytest.mark.parametrize("optimizer", [Adam32(Hyperparameters(0.02)), Adam8(Hyperparameters(0.02)), Sgd(0.5)], ids=repr)
def test_it_learns_and_a_restart_ends_with_the_same_bytes(optimizer: Adam32 | Adam8 | Sgd, tmp_path: Path) -> None:
    """Backpropagation behind the interface lowers a net's loss; state that went through a file goes on as it was."""
    problem = net()
    trainer = Backprop(("a", "b"), optimizer, clip=1.0)

    def gradients(arrays: Arrays) -> list[Gradients]:
        mean = {n: g.astype(np.float32) for n, g in problem.gradient(arrays).items()}
        return [Gradients(problem.loss(arrays) * rows, {n: g * rows for n, g in mean.items()}, rows) for rows in (3, 1)]

    def trained(stepped: Stepped, steps: int) -> Stepped:
        for _ in range(steps):
            stepped = trainer.step(stepped.arrays, stepped.state, Rows(gradients=gradients))
        return stepped

    begun = Stepped(dict(problem.start), trainer.begin(problem.start), None)
    whole, half = trained(begun, 40), trained(begun, 15)
    path = tmp_path / "state.npz"
    np.savez(path, allow_pickle=False, **half.state)
    with np.load(path, allow_pickle=False) as file:
        again = trained(Stepped(half.arrays, dict(file), None), 25)
    assert same_bytes(again.arrays, whole.arrays)
    assert same_bytes(again.state, whole.state)
    assert problem.loss(whole.arrays) < 0.5 * problem.loss(problem.start)
    update = trainer.update(whole.arrays, whole.state)
    assert tuple(update.arrays) == update.names == ("a", "b")
    assert np.array_equal(whole.arrays["a_bias"], problem.start["a_bias"])


def test_bad_gradients_are_one_sentence() -> None:
    """No rows, a loss or an entry that is not finite, and a bundle without a backward graph."""
    with pytest.raises(BadData, match="expected rows to train on"):
        mean_of([])
    with pytest.raises(BadData, match="expected a finite loss, found nan; lower the learning rate"):
        mean_of([Gradients(np.nan, {}, 1)])
    with pytest.raises(BadData, match="expected finite gradients, found a norm of inf"):
        clipped({"a": np.array([np.inf], np.float32)}, 1.0)
    with pytest.raises(BadData, match="expected a backward graph"):
        Backprop(("a",)).step({}, {}, Rows())
