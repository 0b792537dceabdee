"""Cuts that are left out: how much a plan can lose by it, against brute force over all of them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from devices.memory import MIB
from devices.plan import STEP_ITEMS, Board
from devices.stages import Search, Station
from devices.thin import _Weighing, crossing, places_of
from devices.times import Speed
from devices.units import Unit
from tests.devices.test_across import FIXED, Way, figures, unit, ways

BATCH = 2
# most pieces weigh little beside a few, as in a real model
weights = st.sampled_from([0, 0, 1, 2, 300])
few = st.integers(0, 6)
models = st.lists(
    st.builds(unit, weights, few, st.integers(0, 20), st.sampled_from([0, 0, 9]), few, st.integers(0, 50), few, few),
    min_size=4,
    max_size=7,
)
stations = st.builds(
    Station,
    st.builds(
        Board,
        name=st.just("board"),
        budget_bytes=st.integers(FIXED + MIB // 4, FIXED + 3 * MIB),
        mode=st.just("serve"),
        quant=st.sampled_from(["fp32", "int8"]),
        rank=st.integers(0, 4),
    ),
    st.builds(Speed, *[st.integers(1, 9).map(lambda n: n * 10**8)] * 3),
)


def vanishes(way: Way, places: tuple[int, ...], slack: float, weigh: _Weighing) -> bool:
    """Whether some stage's two borders may have one and the same cut in their place."""
    return any(
        all(at == place or (0 < at < len(weigh.units) and weigh.share(at, place) <= slack) for at in (start, end))
        for start, end, _ in way
        for place in places[1:-1]
    )


@settings(max_examples=150, deadline=None)
@given(models, st.lists(stations, min_size=1, max_size=2), st.sampled_from(["serve", "train"]), st.integers(3, 4))
def test_what_is_lost_is_within_the_slack(units: list[Unit], chain: list[Station], mode: str, most: int) -> None:
    """No plan that leaves four times the slack free is better in segments, in bytes, or by more time than is said."""
    chain = [replace(s, board=replace(s.board, mode=mode)) for s in chain]
    places, slack = places_of(units, chain, BATCH, most)
    assert len(places) - 2 < most
    weigh = _Weighing(units, chain, BATCH)
    left = (4 + len(units) * (mode == "train")) * slack
    tighter = [replace(s, board=replace(s.board, budget_bytes=int(s.board.budget_bytes * (1 - left)))) for s in chain]
    kept = [way for way in ways(units, tighter, BATCH) if not vanishes(way, places, slack, weigh)]
    if not kept:
        return
    search = Search(units, chain, BATCH, STEP_ITEMS, places)
    whole = max(sum(times) for times in weigh.times)
    for objective, lost in (("fewest", 0.0), ("traffic", 0.0), ("throughput", 4 * slack * whole)):
        best = search.best(objective)  # type: ignore[arg-type]  # three of the four
        assert best is not None
        least = min(figures(units, chain, BATCH, way)[objective] for way in kept)
        scale = BATCH if objective == "throughput" else 1
        assert best[0][0] <= least * scale + lost


def test_all_cuts_are_kept_where_there_are_few() -> None:
    """Nothing is left out of a small model, and the slack says so."""
    units = [unit(boundary=1) for _ in range(5)]
    chain = [Station(Board("a", 1 << 40, "serve", "fp32", 1), Speed(1, 1, 1))]
    assert places_of(units, chain, BATCH) == ((0, 1, 2, 3, 4, 5), 0.0)


def test_the_narrow_cut_beside_a_weightless_piece_stays() -> None:
    """Of the cuts around pieces that weigh nothing the one that fewest bytes cross is kept, at no slack."""
    units = [unit(weights=400 * (i % 4 == 0), boundary=(5, 3, 2, 4)[i % 4]) for i in range(12)]
    chain = [Station(Board("a", 1 << 40, "serve", "fp32", 1), Speed(10**9, 10**9, 10**9))]
    places, slack = places_of(units, chain, BATCH, 4)
    assert (places, slack) == ((0, 3, 7, 11, 12), 0.0)
    assert {crossing(units, at) for at in places[1:-1]} == {2 * 1024}


def test_a_choice_is_found_where_no_cut_is_better_in_all() -> None:
    """Where the cuts that fewer bytes cross hold more, some are left out all the same, for a slack that is said."""
    units = [unit(weights=9, boundary=i, carried=100 - 2 * i, copied=i) for i in range(12)]
    chain = [Station(Board("a", 1 << 30, "serve", "fp32", 1), Speed(10**9, 10**9, 10**9))]
    places, slack = places_of(units, chain, BATCH, 4)
    assert 0 < len(places) - 2 < 4
    assert 0 < slack <= 1
