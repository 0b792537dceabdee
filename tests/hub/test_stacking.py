"""Aggregation of unequal factors against whole matrices, and what becomes of ranks that few boards have."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hub.aggregation import stacking
from wire.kinds.lora import Lora
from wire.ladder import Factored, emit

Array = NDArray[np.float64]
M, N, RANK = 24, 20, 16


def factors(g: np.random.Generator, rank: int, rows: int = M, columns: int = N, scale: float = 2.0) -> Lora:
    """Random factors in float32, as they travel."""
    a = g.standard_normal((rows, rank)).astype(np.float32)
    b = g.standard_normal((rank, columns)).astype(np.float32)
    return Lora(a, b, scale)


def dense(sent: Lora, updates: list[tuple[Lora, float]]) -> Array:
    """The formula, term by term, with whole matrices."""
    total = sum(w for _, w in updates)
    result = np.zeros((sent.a.shape[0], sent.b.shape[1]))
    for trained, weight in updates:
        result += weight / total * trained.product()
    for i in range(sent.rank):
        m = sum(w for trained, w in updates if trained.rank > i) / total
        result += (1 - m) * sent.scale * np.outer(sent.a[:, i].astype(np.float64), sent.b[i].astype(np.float64))
    return result


def aggregate(sent: Lora, updates: list[tuple[Lora, float]], rank: int) -> Array:
    """What the hub makes of it, as a matrix."""
    found = finished(sent, updates, rank)
    return np.asarray((found.u * found.s) @ found.vt)


def finished(sent: Lora, updates: list[tuple[Lora, float]], rank: int) -> Factored:
    """The same, still factored."""
    stack = stacking.init(sent)
    for trained, weight in updates:
        stack = stacking.apply(stack, trained, weight)
    return stacking.finish(stack, rank)


def relative(found: Array, wanted: Array) -> float:
    """Frobenius error of a matrix relative to the one that it should be."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


FLEETS = {
    "one board": [(4, 1.0)],
    "unequal ranks": [(2, 10.0), (8, 25.0), (16, 5.0)],
    "equal ranks": [(8, 1.0), (8, 2.0)],
    "more columns than the matrix has": [(16, 3.0)] * 5,
}


@pytest.mark.parametrize("fleet", FLEETS.values(), ids=FLEETS.keys())
def test_the_stack_is_the_formula(fleet: list[tuple[int, float]]) -> None:
    """At full rank the aggregate equals the formula written with whole matrices, to float64 rounding."""
    g = np.random.default_rng(0)
    sent, updates = factors(g, RANK), [(factors(g, r), w) for r, w in fleet]

    error = relative(aggregate(sent, updates, min(M, N)), dense(sent, updates))

    assert error < 5e-15


def test_the_tail_is_the_error() -> None:
    """Truncation is optimal, and the tail that is journalled is its Frobenius error."""
    g = np.random.default_rng(1)
    sent, updates = factors(g, RANK), [(factors(g, r), 1.0) for r in (2, 8, 16)]
    whole = dense(sent, updates)

    found = finished(sent, updates, 5)

    best = np.linalg.svd(whole, compute_uv=False)[5:]
    assert found.tail == pytest.approx(np.linalg.norm(whole - (found.u * found.s) @ found.vt), rel=1e-12)
    assert found.tail == pytest.approx(np.linalg.norm(best), rel=1e-12)
    assert stacking.norm(found) == pytest.approx(np.linalg.norm(whole), rel=1e-12)


@given(seed=st.integers(0, 2**16), ranks=st.lists(st.integers(1, 16), min_size=1, max_size=6), order=st.randoms())
@settings(max_examples=40, deadline=None)
def test_the_order_of_updates_does_not_matter(seed: int, ranks: list[int], order: random.Random) -> None:
    """Any order of arrival gives the same matrix, and none differs from the formula."""
    g = np.random.default_rng(seed)
    sent = factors(g, RANK)
    updates = [(factors(g, r), float(g.integers(1, 100))) for r in ranks]
    shuffled = list(updates)
    order.shuffle(shuffled)

    one, other = aggregate(sent, updates, N), aggregate(sent, shuffled, N)

    assert relative(other, one) < 1e-13
    assert relative(one, dense(sent, updates)) < 1e-13


def test_memory_stays_below_the_matrix() -> None:
    """However many boards send, the state never holds more numbers than the matrix and one update have."""
    g = np.random.default_rng(2)
    sent = factors(g, RANK)
    stack = stacking.init(sent)

    sizes = []
    for _ in range(50):
        stack = stacking.apply(stack, factors(g, 16), 1.0)
        factored = sum(left.size + right.size for left, right in stack.parts)
        sizes.append(factored + (0 if stack.dense is None else stack.dense.size))

    assert max(sizes) <= 2 * M * N
    assert stack.dense is not None


def test_an_update_changes_nothing_that_was_there() -> None:
    """`apply` is pure: the state that it was given is the same afterwards."""
    g = np.random.default_rng(3)
    before = stacking.apply(stacking.init(factors(g, RANK)), factors(g, 4), 1.0)
    left, held = before.parts[0][0].copy(), before.held.copy()

    stacking.apply(before, factors(g, 8), 2.0)

    assert len(before.parts) == 1
    np.testing.assert_array_equal(before.parts[0][0], left)
    np.testing.assert_array_equal(before.held, held)


def test_nothing_arrived_nothing_changes() -> None:
    """Without updates the result is what was sent."""
    sent = factors(np.random.default_rng(4), RANK)

    found = stacking.finish(stacking.init(sent), RANK)

    assert relative((found.u * found.s) @ found.vt, sent.product()) < 1e-14


def idle(rounds: int, keep: bool) -> tuple[Array, Array]:
    """Singular values before and after rounds in which boards of rank 4, 4, 4 and 16 return what they were sent."""
    g = np.random.default_rng(5)
    u, v = (np.linalg.qr(g.standard_normal((n, RANK)))[0] for n in (M, N))
    sigma = np.linspace(4, 1, RANK)
    sent = Lora(u.astype(np.float32), (sigma[:, None] * v.T / 2).astype(np.float32), 2.0)
    for _ in range(rounds):
        told = sent if keep else Lora(sent.a, np.zeros_like(sent.b), 2.0)
        found = finished(told, [(sent.prefix(r), 1.0) for r in (4, 4, 4, 16)], RANK)
        a, b = emit(found, RANK, 2.0, key=7)
        sent = Lora(a.astype(np.float32), b.astype(np.float32), 2.0)
    return sigma, found.s


def test_boards_that_learn_nothing_keep_every_rank() -> None:
    """Twenty rounds in which small boards return their prefix unchanged take no energy from the high directions."""
    before, after = idle(20, keep=True)

    np.testing.assert_allclose(after, before, rtol=1e-5)


def test_averaging_absolute_adapters_collapses() -> None:
    """Without the second sum of the formula, the same rounds lose three quarters of the high directions each time."""
    before, after = idle(3, keep=False)

    np.testing.assert_allclose(after[:4], before[:4], rtol=1e-5)
    np.testing.assert_allclose(after[4:], before[4:] / 4**3, rtol=1e-5)


def adam(a: Array, b: Array, grad: Array, base: Array, lr: float) -> tuple[Array, Array]:
    """Ten steps of Adam on ||X (AB - T)||^2, given the Gram matrix of X in `grad` and T in `base`."""
    m, v = [0.0 * a, 0.0 * b], [0.0 * a, 0.0 * b]
    for s in range(1, 11):
        e = grad @ (a @ b - base)
        for i, (p, g) in enumerate(((a, e @ b.T), (b, a.T @ e))):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.99 * v[i] + 0.01 * g * g
            np.subtract(p, lr * (m[i] / (1 - 0.9**s)) / (np.sqrt(v[i] / (1 - 0.99**s)) + 1e-8), out=p)
    return a, b


def planted(seed: int, ranks: tuple[int, ...] = (2, 4, 8, 16), n: int = 64, rounds: int = 30) -> list[float]:
    """Boards of unequal rank and skewed input learn one planted matrix of rank 8; relative error after each round."""
    g, rank = np.random.default_rng(seed), max(ranks)
    u, v = (np.linalg.qr(g.standard_normal((n, 8)))[0] for _ in "uv")
    target = 4 * (u * np.linspace(1, 0.3, 8)) @ v.T
    skew = [np.where(np.arange(n) % len(ranks) == k, 1.0, 0.3) for k in range(len(ranks))]
    inputs = [g.standard_normal((256, n)) * s for s in skew]
    grams = [x.T @ x * (2 / (256 * n)) for x in inputs]
    empty = stacking.finish(stacking.init(Lora(np.zeros((n, 0), np.float32), np.zeros((0, n), np.float32), 1.0)), rank)
    a, b = emit(empty, rank, 1.0, key=seed)
    errors = []
    for t in range(1, rounds + 1):
        stack = stacking.init(Lora(a.astype(np.float32), b.astype(np.float32), 1.0))
        for gram, r in zip(grams, ranks, strict=True):
            ta, tb = adam(a[:, :r].copy(), b[:r].copy(), gram, target, 0.02 * (1 - 0.9 * t / rounds))
            stack = stacking.apply(stack, Lora(ta.astype(np.float32), tb.astype(np.float32), 1.0), 256.0)
        a, b = emit(stacking.finish(stack, rank), rank, 1.0, key=seed * 1000 + t)
        errors.append(float(np.linalg.norm(a @ b - target) / np.linalg.norm(target)))
    return errors


@pytest.mark.parametrize("seed", range(5))
def test_unequal_boards_learn_a_planted_adapter(seed: int) -> None:
    """Ranks 2, 4, 8 and 16 reach a planted adapter of rank 8: error at most .12 after 10 rounds, .03 after 30."""
    errors = planted(seed)

    assert errors[9] <= 0.12
    assert errors[29] <= 0.03
    assert errors[29] < errors[9] < errors[0]
