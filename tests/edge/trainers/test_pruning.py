"""Self-pruning against torch's autograd, and on a bundle: tails shrink, and boards send what is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from edge.train import TrainSettings, train
from edge.trainers.backprop import Backprop
from edge.trainers.interface import Array, Arrays, Gradients, Rows
from edge.trainers.pruning import SelfPruning, Tail, gradient, penalty, pruned
from tests.edge.test_gradients import random_adapter, rows, runner
from wire.adapter import Adapter
from wire.kinds.lora import Lora
from wire.optimizers import Sgd

TAILS = (Tail("a", "b", 3), Tail("c", "d", 1))
SHAPES = {"a": (7, 5), "b": (5, 4), "c": (3, 2), "d": (2, 6)}


def drawn(seed: int = 0) -> dict[str, Array]:
    """Factors of two slots, of rank 5 and 2."""
    g = np.random.default_rng(seed)
    return {name: g.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def test_the_gradient_of_the_penalty_is_autograds() -> None:
    """The sum over slots of products of tail norms, and its gradient, agree with torch in float64."""
    given = drawn()
    leaves = {n: torch.tensor(a, dtype=torch.float64, requires_grad=True) for n, a in given.items()}
    total = torch.zeros((), dtype=torch.float64)
    for tail in TAILS:
        total = total + leaves[tail.a][:, tail.kept :].norm() * leaves[tail.b][tail.kept :].norm()
    total.backward()

    found = gradient(given, TAILS)

    assert np.isclose(penalty(given, TAILS), total.item())
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        np.testing.assert_allclose(found[name], leaf.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_the_penalty_counts_once_however_a_batch_is_cut() -> None:
    """Loss and step are the rows' means and lambda times the penalty, with four rows in one part or in two."""
    given, task = drawn(1), drawn(2)
    trainer = SelfPruning(Backprop(tuple(given), Sgd(0.1)), TAILS, 0.5)

    def parts(*sizes: int) -> Rows:
        return Rows(gradients=lambda _: [Gradients(3.0 * n, {k: n * v for k, v in task.items()}, n) for n in sizes])

    whole, cut = (trainer.step(given, trainer.begin(given), parts(*sizes)) for sizes in ((4,), (2, 2)))

    own = gradient(given, TAILS)
    assert whole.loss is not None
    assert cut.loss is not None
    np.testing.assert_allclose([whole.loss, cut.loss], 3.0 + 0.5 * penalty(given, TAILS), rtol=1e-6)
    for name, array in given.items():
        wanted = array - 0.1 * (task[name] + 0.5 * own[name])
        np.testing.assert_allclose(whole.arrays[name], wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(cut.arrays[name], wanted, rtol=1e-5, atol=1e-6)


def test_a_tail_that_is_nothing_has_no_gradient() -> None:
    """At the start B is 0: the norms have no gradient there, and nothing is infinite."""
    given = drawn()
    still: Arrays = {**given, "b": np.zeros_like(given["b"])}

    assert not gradient(still, TAILS)["a"].any()
    assert all(np.isfinite(g).all() for g in gradient(still, TAILS).values())


def test_tails_are_left_out_when_they_shrank() -> None:
    """Half of the directions go in every slot if the sum over slots fell, else none."""
    given = drawn()
    before = {"x": Lora(given["a"], given["b"], 2.0), "y": Lora(given["c"], given["d"], 2.0)}
    smaller = Adapter("m", lora={**before, "x": Lora(given["a"], 0.5 * given["b"], 2.0)})
    larger = Adapter("m", lora={**before, "x": Lora(given["a"], 2 * given["b"], 2.0)})

    assert {n: w.rank for n, w in pruned(before, smaller, 0.5).lora.items()} == {"x": 2, "y": 1}
    assert pruned(before, larger, 0.5) is larger
    np.testing.assert_array_equal(pruned(before, smaller, 0.5).lora["x"].b, 0.5 * given["b"][:2])


def test_a_board_prunes_itself(tmp_path: Path) -> None:
    """With a strong penalty a train job comes back with fewer directions; without one it keeps them all."""
    run = runner(tmp_path, rank=4)
    start = random_adapter(run.manifest)
    rank = start.rank
    told = {"steps": 10, "batch": 4, "learning_rate": 0.01}

    strong = train(run, start, rows(6), TrainSettings(**told, prune_gamma=0.5, prune_lambda=10.0))  # type: ignore[arg-type]  # numbers of two kinds
    plain = train(run, start, rows(6), TrainSettings(**told))  # type: ignore[arg-type]  # as above

    assert (strong.adapter.rank, plain.adapter.rank) == (rank // 2, rank)
    assert strong.losses[0] > plain.losses[0]
