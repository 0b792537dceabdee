"""The default against whole matrices: thin stacks, stacks that outgrew the matrix, and what is cut off."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hub.aggregation import stacking
from hub.aggregation.stacking import Stack
from tests.hub.aggregation.boards import RANK, Array, Board, M, N, best, expected, factors, relative
from wire.kinds.lora import Lora
from wire.ladder import Factored

FLEETS = {
    "one board": [(4, 1.0)],
    "unequal ranks": [(2, 10.0), (8, 25.0), (16, 5.0)],
    "equal ranks": [(8, 1.0), (8, 2.0)],
    "more columns than the matrix has": [(16, 3.0)] * 5,
}


def stacked(sent: Lora, brought: list[Board]) -> Stack:
    """All boards on one stack."""
    stack = stacking.init(sent)
    for lora, weight in brought:
        stack = stacking.apply(stack, lora, weight)
    return stack


def matrix(found: Factored) -> Array:
    """The whole of what was factored."""
    return np.asarray((found.u * found.s) @ found.vt)


@pytest.mark.parametrize("fleet", FLEETS.values(), ids=FLEETS.keys())
def test_the_stack_is_the_formula(fleet: list[tuple[int, float]]) -> None:
    """At full rank the aggregate equals the formula written with whole matrices, to float64 rounding."""
    g = np.random.default_rng(0)
    sent, brought = factors(g, RANK), [(factors(g, r), w) for r, w in fleet]

    found = stacking.finish(stacked(sent, brought), min(M, N))

    assert relative(matrix(found), expected(sent, brought, sum(w for _, w in brought))) < 5e-15


def test_the_tail_is_the_error() -> None:
    """Truncation is optimal, and the tail that is journalled is its Frobenius error."""
    g = np.random.default_rng(1)
    sent, brought = factors(g, RANK), [(factors(g, r), 1.0) for r in (2, 8, 16)]
    whole = expected(sent, brought, 3.0)

    found = stacking.finish(stacked(sent, brought), 5)

    assert found.tail == pytest.approx(np.linalg.norm(whole - matrix(found)), rel=1e-12)
    assert found.tail == pytest.approx(np.linalg.norm(whole - best(whole, 5)), rel=1e-12)
    assert stacking.norm(found) == pytest.approx(np.linalg.norm(whole), rel=1e-12)


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_it_stays_exact_when_the_stack_outgrows_the_matrix(count: int) -> None:
    """However many boards of rank 16 bring a matrix of 24 by 20, sums and trees of sums give the formula at rank 6."""
    g = np.random.default_rng(count)
    sent, brought = factors(g, RANK), [(factors(g, RANK), 1.0 / count) for _ in range(count)]
    whole = best(expected(sent, brought), 6)

    halves = [stacked(sent, brought[at::2]) for at in range(2)]
    for stack in (stacked(sent, brought), stacking.merge(*halves), stacking.merge(halves[1], halves[0])):
        assert relative(matrix(stacking.finish(stack, 6, 1.0)), whole) < 1e-12
        assert (stack.products.dense is not None) == (count > 0 and RANK * count * (M + N) > M * N)


def test_memory_stays_below_the_matrix() -> None:
    """However many boards send, the state never holds more numbers than the matrix and its factors allow."""
    g = np.random.default_rng(2)
    stack, sizes = stacking.init(factors(g, RANK, 64, 64)), []

    for _ in range(50):
        stack = stacking.apply(stack, factors(g, 8, 64, 64), 1.0)
        thin = sum(part.a.size + part.b.size for part in stack.products.parts)
        sizes.append(thin + (0 if stack.products.dense is None else stack.products.dense.size))

    assert max(sizes) <= 2 * 64 * 64
    assert stack.products.dense is not None
    assert sizes[2] < 64 * 64  # and it is thin as long as that is smaller


def test_an_update_changes_nothing_that_was_there() -> None:
    """`apply` and `finish` are pure: the state and the factors that they were given are the same afterwards."""
    g = np.random.default_rng(3)
    lora = factors(g, 4)
    before: Stack = stacking.apply(stacking.init(factors(g, RANK)), lora, 0.25)
    kept: list[NDArray[np.float32]] = [lora.a.copy(), lora.b.copy(), before.held.copy()]

    stacking.finish(stacking.apply(before, factors(g, 8), 2.0), 4)

    assert len(before.products.parts) == 1
    for was, now in zip(kept, (lora.a, lora.b, before.held), strict=True):
        np.testing.assert_array_equal(was, now)


@given(
    seed=st.integers(0, 2**16),
    boards=st.lists(st.tuples(st.integers(1, 16), st.integers(0, 3), st.integers(1, 50)), min_size=1, max_size=6),
    order=st.randoms(),
)
@settings(max_examples=60, deadline=None)
def test_an_update_of_an_older_version_counts_by_its_change(
    seed: int, boards: list[tuple[int, int, int]], order: random.Random
) -> None:
    """W' is the tip plus each board's share of what it changed of the version it started from, whole matrices say."""
    g = np.random.default_rng(seed)
    past = [factors(g, RANK) for _ in range(4)]  # past[0] is the tip
    past[2] = Lora(past[2].a, past[2].b, 0.5)  # scales may differ
    updates = [(past[age].prefix(r), factors(g, r), age, weight / 400) for r, age, weight in boards]
    whole = past[0].product()
    for base, trained, _, share in updates:
        whole = whole + share * (trained.product() - base.product())

    order.shuffle(updates)
    halves = [stacking.init(past[0]), stacking.init(past[0])]
    for i, (base, trained, age, share) in enumerate(updates):
        old = halves[i % 2]
        halves[i % 2] = stacking.apply_stale(old, base, trained, share) if age else stacking.apply(old, trained, share)
    found = stacking.finish(stacking.merge(*halves), N, 1.0)

    assert relative(matrix(found), whole) < 1e-12
