"""Every method against whole matrices in float64, over ranks, weights and shares that hypothesis draws."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import HubError, UsageError
from hub.aggregation.method import Emitted, Method
from hub.aggregation.methods import METHODS, method_of
from tests.hub.aggregation.boards import (
    RANK,
    SCALE,
    Array,
    Board,
    M,
    N,
    aggregated,
    best,
    boards,
    expected,
    factors,
    product,
    relative,
    trained,
)
from wire.kinds.lora import Lora

KEEPING = ("stacking", "mean", "fedex", "rolora", "ffa", "nested-ffa")  # of what nobody trained
LINEAR = ("rolora", "ffa", "nested-ffa")
every = pytest.mark.parametrize("name", METHODS)
unequal = st.lists(st.tuples(st.integers(1, RANK), st.integers(1, 9)), min_size=1, max_size=7)


def drawn(method: Method, seed: int, told: list[tuple[int, int]], filled: float = 1.0) -> tuple[Lora, list[Board]]:
    """Boards as the method takes them, with shares that are `filled` together."""
    ranks = [told[0][0] if method.equal_ranks else rank for rank, _ in told]
    weights = np.array([weight for _, weight in told], np.float64)
    return boards(seed, ranks, list(filled * weights / weights.sum()), method.trains(seed))


def padded(brought: list[Board], shares: list[float], sent: Lora, rest: float) -> tuple[Array, Array]:
    """Means of zero-padded factors, board by board, and `rest` of what was sent."""
    a, b = rest * sent.a.astype(np.float64), rest * sent.b.astype(np.float64)
    for (lora, _), share in zip(brought, shares, strict=True):
        a += share * np.pad(lora.a.astype(np.float64), ((0, 0), (0, RANK - lora.rank)))
        b += share * np.pad(lora.b.astype(np.float64), ((0, RANK - lora.rank), (0, 0)))
    return a, b


def held(brought: list[Board], sent: Lora) -> tuple[Array, Array]:
    """Means of factors direction by direction, over who has it; the rest of its weight is what was sent."""
    a, b = np.zeros((M, RANK)), np.zeros((RANK, N))
    for i in range(RANK):
        have = [(lora, share) for lora, share in brought if lora.rank > i]
        rest = 1 - sum(share for _, share in have)
        a[:, i] = rest * sent.a[:, i] + sum(share * lora.a[:, i].astype(np.float64) for lora, share in have)
        b[i] = rest * sent.b[i] + sum(share * lora.b[i].astype(np.float64) for lora, share in have)
    return a, b


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31), told=unequal, name=st.sampled_from(("stacking", "flexlora")))
def test_products_are_added_exactly(seed: int, told: list[tuple[int, int]], name: str) -> None:
    """Stacking gives its formula and FlexLoRA the mean of products, both up to the best approximation of the rank."""
    sent, brought = drawn(method_of(name), seed, told)
    whole = expected(sent, brought) if name == "stacking" else sum(w * lora.product() for lora, w in brought)

    found = aggregated(method_of(name), sent, brought, rank=8)

    assert relative(product(found), best(np.asarray(whole), 8)) < 1e-10
    tail = np.linalg.svd(whole, compute_uv=False)[8:]
    assert found.tail == pytest.approx(float(np.linalg.norm(tail)), abs=1e-9 * found.norm)
    assert found.norm == pytest.approx(float(np.linalg.norm(whole)), rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), told=unequal, name=st.sampled_from(LINEAR))
def test_methods_with_a_common_factor_are_exact(seed: int, told: list[tuple[int, int]], name: str) -> None:
    """Where boards share a factor, the mean of the other gives the formula of stacking, with nothing cut off."""
    sent, brought = drawn(method_of(name), seed, told)

    found = aggregated(method_of(name), sent, brought)

    assert relative(product(found), expected(sent, brought)) < 1e-12
    assert found.tail == 0.0


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), told=unequal)
def test_mean_and_padding_average_factors(seed: int, told: list[tuple[int, int]]) -> None:
    """FedIT averages the directions that boards have; zero-padding all, with zeros where a board has none."""
    for name in ("mean", "zero-pad"):
        sent, brought = drawn(method_of(name), seed, told, filled=0.7)
        a, b = held(brought, sent) if name == "mean" else padded(brought, [w for _, w in brought], sent, 0.3)

        found = aggregated(method_of(name), sent, brought)

        np.testing.assert_allclose(found.a, a, atol=1e-12)
        np.testing.assert_allclose(found.b, b, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), told=unequal)
def test_hetlora_weighs_by_the_norm_of_products(seed: int, told: list[tuple[int, int]]) -> None:
    """Boards share what they fill together in proportion to weight times Frobenius norm of their products."""
    sent, brought = drawn(method_of("hetlora"), seed, told, filled=0.7)
    raw = np.array([share * float(np.linalg.norm(lora.product())) for lora, share in brought])
    a, b = padded(brought, list(0.7 * raw / raw.sum()), sent, 0.3)

    found = aggregated(method_of("hetlora"), sent, brought)

    np.testing.assert_allclose(found.a, a, atol=1e-12)
    np.testing.assert_allclose(found.b, b, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), told=unequal)
def test_fedex_puts_what_means_lose_into_the_other_rungs(seed: int, told: list[tuple[int, int]]) -> None:
    """The first rungs are means of factors; the others are the best of their number of what is missing to the sum."""
    sent, brought = drawn(method_of("fedex"), seed, told)
    first = max(lora.rank for lora, _ in brought)
    a, b = (part for part in held(brought, sent))
    missing = expected(sent, brought) - SCALE * a[:, :first] @ b[:first]

    found = aggregated(method_of("fedex"), sent, brought)

    np.testing.assert_allclose(found.a[:, :first], a[:, :first], atol=1e-12)
    np.testing.assert_allclose(found.b[:first], b[:first], atol=1e-12)
    rest = SCALE * found.a[:, first:] @ found.b[first:]
    size = float(np.linalg.norm(expected(sent, brought)))
    assert np.linalg.norm(rest - best(missing, RANK - first)) < 1e-8 * size
    lost = float(np.linalg.norm(missing - best(missing, RANK - first)))
    assert found.tail == pytest.approx(lost, abs=1e-8 * size)


@every
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), told=unequal, order=st.randoms())
def test_neither_order_nor_a_tree_of_hubs_changes_the_result(
    name: str, seed: int, told: list[tuple[int, int]], order: random.Random
) -> None:
    """Boards in any order, over any tree of hubs that merge their states, give the matrix that one hub gives."""
    method = method_of(name)
    sent, brought = drawn(method, seed, told, filled=0.9)
    wanted = aggregated(method, sent, brought)
    order.shuffle(brought)
    states = [method.apply(method.init(sent), lora, share) for lora, share in brought] + [method.init(sent)]
    while len(states) > 1:
        states.append(method.merge(states.pop(order.randrange(len(states))), states.pop()))

    found = method.finish(states[0], RANK, SCALE, 7, 1.0)

    assert relative(product(found), product(wanted)) < 1e-9
    assert found.tail == pytest.approx(wanted.tail, abs=1e-8 * wanted.norm)


@every
def test_without_updates_everything_stays_as_it_was_sent(name: str) -> None:
    """Whatever the method, a slot for which nobody brought anything has the product that was sent."""
    sent = factors(np.random.default_rng(0), RANK)

    assert relative(product(aggregated(method_of(name), sent, [])), sent.product()) < 1e-12


@every
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**31), filled=st.floats(0.05, 0.95))
def test_the_share_that_nobody_fills_stays_as_it_was_sent(name: str, seed: int, filled: float) -> None:
    """Boards of the hub's rank that return what they were sent change nothing, however little of 1 they fill."""
    sent = factors(np.random.default_rng(seed), RANK)

    found = aggregated(method_of(name), sent, [(sent, 0.6 * filled), (sent, 0.4 * filled)])

    assert relative(product(found), sent.product()) < 1e-12


def ladder(seed: int) -> Lora:
    """A version with energy in every direction, as stacking publishes it."""
    g = np.random.default_rng(seed)
    u, v = (np.linalg.qr(g.standard_normal((n, RANK)))[0] for n in (M, N))
    return Lora(u.astype(np.float32), (np.linspace(4, 1, RANK)[:, None] * v.T).astype(np.float32), SCALE)


def idle(name: str, rounds: int) -> tuple[Lora, Emitted]:
    """Rounds in which boards return what they were sent: of rank 4, 4, 4 and 16, or all of 4 where ranks are equal."""
    method, began = method_of(name), ladder(1)
    sent, found = began, Emitted(began.a.astype(np.float64), began.b.astype(np.float64), 0.0, 0.0)
    for _ in range(rounds):
        brought = [(sent.prefix(r), 0.25) for r in ((4, 4, 4, 4) if method.equal_ranks else (4, 4, 4, RANK))]
        found = aggregated(method, sent, brought)
        sent = Lora(found.a.astype(np.float32), found.b.astype(np.float32), SCALE)
    return began, found


@pytest.mark.parametrize("name", KEEPING)
def test_boards_that_learn_nothing_change_nothing(name: str) -> None:
    """Ten rounds of boards that return their prefix leave the energy beyond every rank as it is."""
    began, found = idle(name, 10)

    assert relative(product(found), began.product()) < 1e-5


@pytest.mark.parametrize("name", [n for n in METHODS if n not in KEEPING])
def test_absolute_methods_fade_as_they_say(name: str) -> None:
    """The others lose what only the fourth board has, and their sentence says so."""
    began, found = idle(name, 3)
    lost = product(found) - began.product()

    assert relative(began.product() + lost, began.product()) > 0.3
    assert "what few boards hold" in METHODS[name].inexact


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), told=unequal, rank=st.integers(1, RANK))
def test_ladders_are_nested(seed: int, told: list[tuple[int, int]], rank: int) -> None:
    """The first directions of what stacking and FlexLoRA emit are the best of their number, for a board of any rank."""
    for name in ("stacking", "flexlora"):
        sent, brought = drawn(method_of(name), seed, told)
        found = aggregated(method_of(name), sent, brought)

        prefix = SCALE * found.a[:, :rank] @ found.b[:rank]

        assert relative(prefix, best(product(found), rank)) < 1e-9
        fewer = aggregated(method_of(name), sent, brought, rank=rank)
        np.testing.assert_allclose(SCALE * fewer.a @ fewer.b, prefix, atol=1e-9 * found.norm)


@pytest.mark.parametrize("name", ["ffa", "nested-ffa"])
def test_a_frozen_a_stays_to_the_bit(name: str) -> None:
    """A is what was sent, over rounds too, so that boards may keep the one that they have."""
    method = method_of(name)
    sent, brought = drawn(method, 3, [(4, 1), (9, 3)])

    assert np.array_equal(aggregated(method, sent, brought).a.astype(np.float32), sent.a)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**31), told=st.lists(st.tuples(st.integers(1, RANK), st.booleans()), min_size=1, max_size=6)
)
def test_older_updates_count_by_their_change_where_a_is_frozen(seed: int, told: list[tuple[int, bool]]) -> None:
    """Boards that started from an older version with the same A add their share of what they changed of it."""
    g, method = np.random.default_rng(seed), method_of("nested-ffa")
    sent = factors(g, RANK)
    older = Lora(sent.a, factors(g, RANK).b, 0.5)
    assert method.apply_stale is not None
    state, whole = method.init(sent), sent.product()
    for rank, late in told:
        base = (older if late else sent).prefix(rank)
        lora, share = trained(g, base, rank, "b"), 1 / len(told)
        state = method.apply_stale(state, base, lora, share) if late else method.apply(state, lora, share)
        whole = whole + share * (lora.product() - base.product())

    assert relative(product(method.finish(state, RANK, SCALE, 7, 1.0)), whole) < 1e-12


def test_rolora_leaves_the_factor_that_rests() -> None:
    """B learns in the first round and A in the next; the other one comes out as it was sent, to the bit."""
    method = method_of("rolora")
    for nth, resting in ((0, "a"), (1, "b")):
        sent, brought = boards(4, [2, 8], [0.3, 0.7], method.trains(nth))
        found = aggregated(method, sent, brought)

        assert np.array_equal(getattr(found, resting).astype(np.float32), getattr(sent, resting))
        assert not np.array_equal(found.a.astype(np.float32), sent.a) or resting == "a"


@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].equal_ranks])
def test_methods_of_one_rank_refuse_others(name: str) -> None:
    """Boards of two ranks are refused with a sentence that says what to do, also when two hubs brought them."""
    method, (sent, brought) = method_of(name), boards(5, [2, 8], [0.5, 0.5])
    one, other = (method.apply(method.init(sent), lora, share) for lora, share in brought)

    with pytest.raises(HubError, match=r"one rank, found 2 and 8; open the round with --ranks 2"):
        method.finish(method.merge(one, other), RANK, SCALE, 7, 1.0)


@every
def test_a_state_is_no_larger_for_more_boards(name: str) -> None:
    """After fifty boards a state holds no more numbers than the matrix of its slot and four ladders of it."""
    method = method_of(name)
    sent, brought = drawn(method, 6, [(RANK, 1)] * 50)
    state = method.init(sent)
    for lora, share in brought:
        state = method.apply(state, lora, share)

    assert numbers(state) <= M * N + 4 * RANK * (M + N)


def numbers(state: object) -> int:
    """How many numbers the arrays of a state hold, all records in it counted."""
    if isinstance(state, np.ndarray):
        return int(state.size)
    if isinstance(state, tuple):
        return sum(numbers(part) for part in state)
    return sum(numbers(part) for part in vars(state).values()) if hasattr(state, "__dataclass_fields__") else 0


@every
def test_boards_of_another_scale_count_by_their_product(name: str) -> None:
    """Factors with half the scale and twice the B are the same update."""
    method, (sent, brought) = method_of(name), boards(7, [4, 4], [0.5, 0.5])
    same = [(replace(lora, b=2 * lora.b, scale=lora.scale / 2), share) for lora, share in brought]

    found, wanted = aggregated(method, sent, same), aggregated(method, sent, brought)

    assert relative(product(found), product(wanted)) < 1e-10


@every
def test_a_direction_that_vanished_can_learn_again(name: str) -> None:
    """No direction goes out with nothing in both factors."""
    method, zero = method_of(name), Lora(np.zeros((M, 4), np.float32), np.zeros((4, N), np.float32), SCALE)
    sent = factors(np.random.default_rng(8), RANK)

    found = aggregated(method, sent, [(zero, 1.0)])

    assert found.a.any(axis=0).all()


def test_every_method_says_what_it_loses() -> None:
    """Only the default may have nothing to say; an unknown name is answered with those that there are."""
    assert [n for n, method in METHODS.items() if not method.inexact] == ["stacking"]
    with pytest.raises(UsageError, match="stacking, mean, zero-pad"):
        method_of("average")
