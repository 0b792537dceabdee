"""Edits of low rank: gradients of whole weights from graphs that have none, and what an edit may do to other rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from console.errors import BadData, Declined
from edge.trainers.edit import Graphs, Labels, Settings, edit
from edge.trainers.sketch import Factors, Product, gradient
from wire.kinds.lora import Lora

Tensors = Mapping[str, tuple[torch.Tensor, torch.Tensor, float]]


class Net:
    """A net in torch, float64, with factors beside two weights of 24 x 20 and 20 x 6; rows are drawn."""

    def __init__(self, count: int = 80, seed: int = 0) -> None:
        drawn = np.random.default_rng(seed)
        self.w = {"low": drawn.normal(size=(24, 20)) / 5, "high": drawn.normal(size=(20, 6)) / 3}
        self.x = drawn.normal(size=(count, 24))

    def run(
        self, factors: Mapping[str, tuple[torch.Tensor, torch.Tensor, float]], chosen: Sequence[int]
    ) -> torch.Tensor:
        h = torch.tensor(self.x[list(chosen)])
        for name in ("low", "high"):
            a, b, scale = factors[name]
            h = h @ torch.tensor(self.w[name]) + scale * (h @ a @ b)
            h = torch.tanh(h) if name == "low" else h
        return h

    @staticmethod
    def tensors(factors: Factors) -> Tensors:
        """Leaves of torch's."""
        return {
            n: (*(torch.tensor(v.astype(np.float64), requires_grad=True) for v in (f.a, f.b)), f.scale)  # type: ignore[misc]  # two and one are three
            for n, f in factors.items()
        }

    def graphs(self) -> Graphs:
        """What an edit may ask."""

        def grads(
            factors: Factors, chosen: Sequence[int], labels: Labels
        ) -> tuple[float, dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]]:
            leaves = self.tensors(factors)
            loss = torch.nn.functional.cross_entropy(self.run(leaves, chosen), torch.tensor(labels), reduction="sum")
            loss.backward()
            return float(loss.detach()), {n: (_f32(a.grad), _f32(b.grad)) for n, (a, b, _) in leaves.items()}

        def logits(factors: Factors, chosen: Sequence[int]) -> NDArray[np.float32]:
            return _f32(self.run(self.tensors(factors), chosen).detach())

        return Graphs(grads, logits)

    def whole(self, factors: Factors, chosen: Sequence[int], labels: Labels) -> dict[str, NDArray[np.float64]]:
        """The gradient of the weights themselves, by torch."""
        h = torch.tensor(self.x[list(chosen)])
        weights = {n: torch.tensor(w + factors[n].product(), requires_grad=True) for n, w in self.w.items()}
        out = torch.tanh(h @ weights["low"]) @ weights["high"]
        torch.nn.functional.cross_entropy(out, torch.tensor(labels), reduction="sum").backward()
        return {n: w.grad.numpy() for n, w in weights.items() if w.grad is not None}


def _f32(value: torch.Tensor | None) -> NDArray[np.float32]:
    assert value is not None
    return value.numpy().astype(np.float32)


def held(rank: int = 2, scale: float = 2.0, seed: int = 4) -> dict[str, Lora]:
    """Factors that are not 0."""
    drawn = np.random.default_rng(seed)
    sizes = {"low": (24, 20), "high": (20, 6)}
    return {
        n: Lora(
            drawn.normal(0, 0.2, (i, rank)).astype(np.float32),
            drawn.normal(0, 0.2, (rank, o)).astype(np.float32),
            scale,
        )
        for n, (i, o) in sizes.items()
    }


def dense(product: Product) -> NDArray[np.float64]:
    """The product itself."""
    return product[0] @ product[1]


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 5), rank=st.integers(0, 3), scale=st.sampled_from([0.25, 1.0, 2.0]), seed=st.integers(0, 99)
)
def test_the_gradient_of_the_whole_weight_is_torchs(count: int, rank: int, scale: float, seed: int) -> None:
    """With as many columns as rows the product of two thin factors is the weight's gradient, beside factors too."""
    net, factors, labels = Net(), held(rank, scale, seed), np.arange(count) % 6
    found = gradient(lambda f: net.graphs().gradient(f, range(count), labels)[1], factors, 6, seed=seed)
    for name, expected in net.whole(factors, range(count), labels).items():
        assert found[name][0].shape[1] <= count
        np.testing.assert_allclose(dense(found[name]), expected, atol=1e-5 * np.abs(expected).max())


def test_more_rows_than_columns_leave_the_largest_directions() -> None:
    """Of a gradient of rank 20, eight columns with an iteration lose at most a tenth more than the best of rank 4."""
    net, labels = Net(), np.random.default_rng(0).integers(0, 6, 40)
    found = gradient(lambda f: net.graphs().gradient(f, range(40), labels)[1], held(), 8, iterations=1)
    expected = net.whole(held(), range(40), labels)["low"]
    best = np.sqrt(np.sum(np.linalg.svd(expected, compute_uv=False)[4:] ** 2))
    assert np.linalg.norm(expected - dense(found["low"])) < 1.1 * best


def answers(net: Net, factors: Factors, chosen: Sequence[int]) -> Labels:
    """What the net says of rows."""
    found: Labels = net.graphs().logits(factors, chosen).argmax(axis=1)
    return found


def wrong(net: Net, count: int, seed: int = 1) -> Labels:
    """Labels for the first rows that the net does not give."""
    return (answers(net, held(), range(count)) + np.random.default_rng(seed).integers(1, 6, count)) % 6


@pytest.mark.parametrize("seed", range(3))
def test_an_edit_mends_and_keeps(seed: int) -> None:
    """Two wrong rows are right, of 40 rows to be kept no answer has changed, and the numbers it gives agree."""
    net = Net(seed=seed)
    wanted = wrong(net, 2, seed)
    done = edit(net.graphs(), held(), wanted, 40, Settings(rank=4, bound=0.0, rounds=30))
    np.testing.assert_array_equal(answers(net, done.factors, range(2)), wanted)
    np.testing.assert_array_equal(answers(net, done.factors, range(2, 42)), answers(net, held(), range(2, 42)))
    assert (done.mended, done.changed, done.kept) == (2, 0, 40)
    assert "2 rows are mended" in done.sentences[0]
    assert "0 of 40 rows" in done.sentences[0]


def test_dropping_an_edit_undoes_it() -> None:
    """The held factors lie before the edit's, bit for bit; the change alone is their difference, of the rank asked."""
    net = Net()
    done, before = edit(net.graphs(), held(), wrong(net, 1), 0, Settings(rank=1)), held()
    for name, factors in done.factors.items():
        np.testing.assert_array_equal(factors.prefix(2).a, before[name].a)
        np.testing.assert_array_equal(factors.prefix(2).b, before[name].b)
        assert done.change[name].rank == 1
        difference = factors.product() - before[name].product()
        np.testing.assert_allclose(done.change[name].product(), difference, atol=1e-7)


def test_an_edit_is_no_larger_than_it_must_be() -> None:
    """The first edit of one row leads by the margin and, at nine tenths of its size, by less."""
    net = Net()
    done = edit(net.graphs(), held(), wrong(net, 1), 0, Settings(rank=2, margin=0.2))
    less = {n: Lora(f.a, np.concatenate([f.b[:2], 0.9 * f.b[2:]]), f.scale) for n, f in done.factors.items()}
    leads = [np.sort(net.graphs().logits(f, [0])[0]) for f in (done.factors, less)]
    assert leads[0][-1] - leads[0][-2] >= 0.2 - 1e-6 > leads[1][-1] - leads[1][-2]


def test_what_cannot_be_mended_within_the_bound_is_declined() -> None:
    """A row that is to be kept and, word for word, to be mended: the sentence says how many rows are in the way."""
    net = Net()
    net.x[1] = net.x[0]
    with pytest.raises(Declined, match=r"mends 1 rows and changes at most 0.00% of 1 rows .* found after 3 rounds"):
        edit(net.graphs(), held(), wrong(net, 1), 1, Settings(bound=0.0, rounds=3))


def test_nothing_to_mend_is_said() -> None:
    """Rows that are right already, no slots, and factors with no gradient: a sentence each."""
    net = Net()
    with pytest.raises(BadData, match="found none; there is nothing to mend"):
        edit(net.graphs(), held(), answers(net, held(), range(3)), 5)
    with pytest.raises(BadData, match="expected slots"):
        edit(net.graphs(), {}, np.array([0]), 5)
