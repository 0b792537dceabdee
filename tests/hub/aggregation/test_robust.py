"""Robust rules against dense references, and against bad boards."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from console.errors import HubError
from hub.aggregation.gram import gram
from hub.aggregation.robust.cosine import cosines
from hub.aggregation.robust.krum import scores
from hub.aggregation.robust.rule import Bounds
from hub.aggregation.robust.rules import RULES, enough, least
from hub.aggregation.shares import Shares, by_samples
from tests.hub.aggregation.crowd import BAD, Array, Factors, changed, dense, honest, regauged, sent

RANKS = [2, 4, 4, 8, 8, 12, 4, 2]


def inner(start: Factors, boards: list[Factors]) -> Array:
    """The Gram matrix of some boards."""
    return gram([partial(changed, start, one) for one in boards])


def applied(rule: str, found: Array, shares: Shares, bounds: Bounds) -> Shares:
    """The shares that a rule gives."""
    return RULES[rule].apply(found, shares, bounds)


def attack(kind: str, count: int, ranks: list[int] = RANKS) -> tuple[Factors, list[Factors], list[Factors]]:
    """What was sent, honest boards, and the same boards of which the last `count` are bad."""
    g = np.random.default_rng(0)
    start = sent(g)
    good = honest(g, start, ranks)
    bad = [BAD[kind](g, start, one) for one in good[len(good) - count :]]
    return start, good, [*good[: len(good) - count], *bad]


def distance(start: Factors, boards: list[Factors], shares: Array, wanted: Array) -> float:
    """How far the weighted sum of changes is from what it should be, relative to it."""
    made = sum(share * dense(start, one) for share, one in zip(shares, boards, strict=True))
    return float(np.linalg.norm(made - wanted) / np.linalg.norm(wanted))


BOUNDS = Bounds(bad=2, clip=1.0, cosine=0.5)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("rule", [name for name in RULES if name != "clip"])
def test_bad_boards_do_not_move_the_result(rule: str, kind: str) -> None:
    """Whatever two of eight boards send, the result stays by the honest mean; the plain mean does not."""
    start, good, boards = attack(kind, 2)
    wanted = np.mean([dense(start, one) for one in good[:6]], axis=0)
    equal = by_samples([1] * 8)

    shares = applied(rule, inner(start, boards), equal, BOUNDS)

    clipped = rule == "clip-median"  # it takes nothing out: two boards of eight may still pull by their length
    assert distance(start, boards, shares.values, wanted) < (0.55 if clipped else 0.25)
    assert distance(start, boards, equal.values, wanted) > 1.0
    if rule in ("krum", "multi-krum", "cosine"):
        np.testing.assert_array_equal(shares.values[6:], 0.0)


@pytest.mark.parametrize("rule", ["krum", "multi-krum", "geometric-median", "cosine"])
@pytest.mark.parametrize("kind", ["huge", "flipped"])
def test_three_of_nine_are_still_too_few(rule: str, kind: str) -> None:
    """As many bad boards as Krum stands at all (n at least 2 f + 3) do not move the result either."""
    start, good, boards = attack(kind, 3, [*RANKS, 4])
    wanted = np.mean([dense(start, one) for one in good[:6]], axis=0)

    shares = applied(rule, inner(start, boards), by_samples([1] * 9), Bounds(bad=3, cosine=0.5))

    assert distance(start, boards, shares.values, wanted) < 0.25


@pytest.mark.parametrize("rule", RULES)
def test_rules_do_not_see_how_a_product_is_written(rule: str) -> None:
    """Other factors of the same products, (A G, G^-1 B), get the same shares."""
    start, _, boards = attack("random", 2)
    g = np.random.default_rng(5)
    gauged = [regauged(g, one) for one in boards]

    one, other = (applied(rule, inner(start, some), by_samples([1] * 8), BOUNDS).values for some in (boards, gauged))

    np.testing.assert_allclose(other, one, atol=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_boards_does_not_matter(rule: str) -> None:
    """Boards in another order get the same shares, each its own."""
    start, _, boards = attack("random", 2)
    order = np.random.default_rng(6).permutation(8)
    found, samples = inner(start, boards), np.arange(1, 9)

    one = applied(rule, found, by_samples(samples.tolist()), BOUNDS).values
    other = applied(rule, found[np.ix_(order, order)], by_samples(samples[order].tolist()), BOUNDS).values

    np.testing.assert_allclose(other, one[order], rtol=1e-6, atol=1e-12)


@given(seed=st.integers(0, 2**16), count=st.integers(7, 12), rule=st.sampled_from(sorted(RULES)))
@settings(max_examples=60, deadline=None)
def test_shares_stay_shares(seed: int, count: int, rule: str) -> None:
    """Whatever boards send, each share is finite and at least 0, and all are together at most 1."""
    g = np.random.default_rng(seed)
    rows = g.standard_normal((count, 3)) * 10.0 ** g.integers(-6, 7, (count, 1))
    rows[g.integers(count)] = 0.0  # a board that learned nothing

    shares = applied(rule, rows @ rows.T, by_samples(g.integers(1, 100, count).tolist()), Bounds(2, 1.0, -1.0))

    assert (shares.values >= 0).all()
    assert shares.values.sum() < 1 + 1e-9
    assert shares.values.sum() > 0


def test_clipping_makes_long_changes_as_long_as_the_bound() -> None:
    """After clipping no change is longer than the bound, shorter ones are as they were, and shares leave the rest."""
    start, _, boards = attack("huge", 2)
    found = inner(start, boards)
    long = np.sqrt(np.diagonal(found))
    bound = float(np.sort(long)[4])

    shares = applied("clip", found, by_samples([1] * 8), Bounds(clip=bound))

    np.testing.assert_allclose(8 * shares.values * long, np.minimum(long, bound), rtol=1e-12)
    half = applied("clip-median", found, by_samples([1] * 8), Bounds(clip=0.5))
    np.testing.assert_allclose(8 * half.values * long, np.minimum(long, 0.5 * np.median(long)), rtol=1e-12)


def brute_scores(rows: Array, bad: int) -> list[float]:
    """Krum's scores from whole matrices, update by update."""
    found = []
    for i, one in enumerate(rows):
        others = sorted(float(np.sum((one - other) ** 2)) for j, other in enumerate(rows) if j != i)
        found.append(sum(others[: len(rows) - bad - 2]))
    return found


def test_krum_scores_are_those_of_the_definition() -> None:
    """Scores from inner products are sums of squared distances of whole matrices; Krum takes the lowest."""
    start, _, boards = attack("random", 2)
    rows = np.stack([dense(start, one) for one in boards])
    found = inner(start, boards)

    for bad in (0, 1, 2):
        np.testing.assert_allclose(scores(found, bad), brute_scores(rows, bad), rtol=1e-9)
    best = int(np.argmin(brute_scores(rows, 2)))
    assert applied("krum", found, by_samples([1] * 8), Bounds(2)).values.tolist() == np.eye(8)[best].tolist()
    several = applied("multi-krum", found, by_samples([1] * 8), Bounds(2)).values
    assert set(np.flatnonzero(several)) == set(np.argsort(brute_scores(rows, 2))[:4])
    np.testing.assert_allclose(several[several > 0], 0.25)


def test_the_geometric_median_is_the_minimum() -> None:
    """No point has a smaller weighted sum of distances: scipy finds none from whole matrices."""
    g = np.random.default_rng(7)
    rows, weights = g.standard_normal((9, 4)), g.integers(1, 20, 9).astype(float)
    shares = by_samples(weights.tolist())

    def cost(point: Array) -> float:
        return float(shares.values @ np.linalg.norm(rows - point, axis=1))

    made = applied("geometric-median", rows @ rows.T, shares, Bounds()).values

    best = minimize(cost, rows.mean(axis=0), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-13})
    assert cost(made @ rows) == pytest.approx(best.fun, rel=1e-8)
    assert made.sum() == pytest.approx(1.0)


def test_cosines_are_with_the_middle() -> None:
    """Boards that learned the same have a cosine near 1 with the middle, one that learned the opposite near -1."""
    start, _, boards = attack("flipped", 1)

    found = cosines(inner(start, boards))

    assert (found[:7] > 0.9).all()
    assert found[7] < -0.9


def test_no_direction_in_common_is_said() -> None:
    """A filter that leaves nobody is an error that says what to do, not an empty mean."""
    with pytest.raises(HubError, match=r"at least 0\.9, found none of 3; lower robust_cosine"):
        applied("cosine", np.eye(3), by_samples([1, 1, 1]), Bounds(cosine=0.9))


def test_what_a_rule_did_can_be_done_to_heads() -> None:
    """Shares are weights times trust times what passed, up to one common factor: heads take the last two alone."""
    start, _, boards = attack("huge", 2)
    weights = by_samples([3, 1, 4, 1, 5, 9, 2, 6])
    shares = applied("cosine", inner(start, boards), weights, BOUNDS)

    trust, passed = np.array([shares.head_factors(i) for i in range(8)]).T

    made = weights.values * trust
    np.testing.assert_allclose(shares.values, made / made.sum() * passed, rtol=1e-12)


@pytest.mark.parametrize(("rule", "needed"), [("clip", 1), ("krum", 7), ("multi-krum", 7), ("cosine", 3)])
def test_too_few_updates_are_refused(rule: str, needed: int) -> None:
    """A rule says how many updates it needs, and refuses fewer."""
    bounds = Bounds(bad=2)
    assert least(rule, bounds) == needed
    enough(rule, bounds, needed)
    with pytest.raises(HubError, match=f"expected at least {needed} updates for the robust rule {rule}.*found"):
        enough(rule, bounds, needed - 1)
