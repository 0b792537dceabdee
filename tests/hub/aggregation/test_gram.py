"""Inner products of changes, from factors and a few updates at a time, against whole matrices."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from hub.aggregation.gram import Changes, gram, lengths
from hub.aggregation.products import Change, changes
from tests.hub.aggregation.crowd import changed, dense, honest, regauged, sent
from wire.kinds.lora import Lora


class Shelf:
    """Updates that count how many of them are in memory at once."""

    def __init__(self, held: list[dict[str, Change]]) -> None:
        self.held, self.read = held, 0

    def readers(self) -> list[Callable[[], Changes]]:
        return [partial(self.give, i) for i in range(len(self.held))]

    def give(self, index: int) -> Changes:
        self.read += 1
        return self.held[index]


@pytest.mark.parametrize("budget_bytes", [0, 20_000, 1 << 30])
def test_inner_products_are_those_of_whole_matrices(budget_bytes: int) -> None:
    """However many updates stay in memory, every inner product is that of the dense changes, to rounding."""
    g = np.random.default_rng(0)
    start = sent(g)
    boards = honest(g, start, [2, 4, 4, 8, 12, 1])
    rows = np.stack([dense(start, one) for one in boards])

    found = gram([partial(changed, start, one) for one in boards], budget_bytes)

    np.testing.assert_allclose(found, rows @ rows.T, rtol=1e-11, atol=1e-11 * np.abs(rows @ rows.T).max())
    np.testing.assert_array_equal(found, found.T)


def test_lengths_alone_say_nothing_of_pairs() -> None:
    """Where only lengths are asked for, each update is read once and no inner product is made up."""
    g = np.random.default_rng(1)
    start = sent(g)
    boards = honest(g, start, [2, 4, 8])
    shelf = Shelf([changed(start, one) for one in boards])

    found = lengths(shelf.readers())

    np.testing.assert_allclose(np.diagonal(found), [np.sum(dense(start, one) ** 2) for one in boards], rtol=1e-11)
    assert np.isnan(found[~np.eye(3, dtype=bool)]).all()
    assert shelf.read == 3


def test_a_budget_of_nothing_reads_two_at_a_time() -> None:
    """With one update staying and one passing by, n updates are read n (n + 1) / 2 times."""
    g = np.random.default_rng(2)
    start = sent(g)
    shelf = Shelf([changed(start, one) for one in honest(g, start, [2] * 5)])

    gram(shelf.readers(), 0)

    assert shelf.read == 15


def test_a_part_that_somebody_lacks_is_zero() -> None:
    """Updates with other parts (a bias that a board has no place for) have no inner product there."""
    one = {"a": Change(np.ones((2, 1)), np.ones((1, 3))), "bias b": Change(np.ones((1, 1)), np.full((1, 2), 3.0))}
    other = {"a": Change(np.ones((2, 1)), np.full((1, 3), 2.0))}

    found = gram([lambda: other, lambda: one, lambda: {"bias b": one["bias b"]}])

    np.testing.assert_allclose(found, [[24, 12, 0], [12, 24, 18], [0, 18, 18]])


def test_other_factors_of_the_same_product_change_nothing() -> None:
    """Inner products do not depend on how a board writes its product: (A G, G^-1 B) gives the same matrix."""
    g = np.random.default_rng(3)
    start = sent(g)
    boards = honest(g, start, [2, 4, 8])
    gauged = [regauged(g, one) for one in boards]

    before, after = (gram([partial(changed, start, one) for one in some]) for some in (boards, gauged))

    np.testing.assert_allclose(after, before, rtol=1e-3)


def test_memory_does_not_grow_with_the_boards() -> None:
    """Eighty updates take no more memory than twenty, but for the matrix of inner products itself."""
    g = np.random.default_rng(4)
    sent_to = {"slot": Lora(g.standard_normal((200, 8)).astype(np.float32), np.zeros((8, 200), np.float32), 1.0)}

    def read(seed: int) -> Changes:
        b = np.random.default_rng(seed).standard_normal((8, 200)).astype(np.float32)
        return changes({"slot": Lora(sent_to["slot"].a, b, 1.0)}, sent_to)

    peaks = []
    for count in (20, 80):
        tracemalloc.start()
        gram([partial(read, i) for i in range(count)], 300_000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 2_500_000
