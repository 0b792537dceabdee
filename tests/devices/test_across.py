"""Chains of boards against brute force over all borders and cuts, and the words when nothing fits."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import DoesNotFit
from console.table import mib
from devices.across import OBJECTIVES, across
from devices.enough import KnownBoard
from devices.memory import MIB, Need
from devices.plan import Board, needs
from devices.profile import load, names
from devices.stages import Objective, Station
from devices.times import SLOWEST_LINK, Speed, speed_of
from devices.units import Unit

FIXED = Need(0, 0).total
KIB = 1024
BATCHES = (4, 1)
UNLIMITED = 1 << 40
Way = list[tuple[int, int, tuple[int, ...]]]  # per board: first unit, end, cuts within


def unit(
    weights: int = 0,
    kept: int = 0,
    boundary: int = 0,
    slot: int = 0,
    carried: int = 0,
    flops: int = 0,
    moved: int = 0,
    copied: int = 0,
) -> Unit:
    """A unit in KiB and Kflop; its int8 weights are a quarter, and as much as it keeps is transient."""
    formats = {"fp32": weights * KIB, "int8": weights * KIB // 4}
    spare = {"int8": {str(weights): weights * KIB}}
    return Unit(
        "layer",
        formats,
        kept * KIB,
        kept * KIB,
        boundary * KIB,
        slot,
        spare,
        carried * KIB,
        flops * 1000,
        moved * KIB,
        copied_bytes_per_item=copied * KIB,
    )


def station(name: str, budget_bytes: int, gflops: int = 1, gbytes: int = 1, mbytes_link: int = 1) -> Station:
    """A serving board over float32 weights, of rank 1."""
    speed = Speed(gflops * 10**9, gbytes * 10**9, mbytes_link * 10**6)
    return Station(Board(name, budget_bytes, "serve", "fp32", 1), speed)


sizes = st.integers(0, 400)
small = st.integers(0, 50)
models = st.lists(
    st.builds(unit, sizes, sizes, small, small, st.sampled_from([0, 1]), st.integers(0, 900), sizes, sizes),
    min_size=1,
    max_size=6,
)
boards = st.builds(
    Board,
    name=st.just("board"),
    budget_bytes=st.integers(FIXED, FIXED + 4 * MIB),
    mode=st.just("train"),
    quant=st.sampled_from(["fp32", "int8"]),
    rank=st.integers(0, 8),
)
rates = st.integers(1, 9).map(lambda n: n * 10**8)
chains = st.lists(st.builds(Station, boards, st.builds(Speed, rates, rates, rates)), min_size=1, max_size=3)
modes = st.sampled_from(["train", "serve", "train-forward"])


def ns(amount: int, per_s: int) -> int:
    """Nanoseconds, rounded up, in another way than the code under test."""
    quotient = Fraction(amount * 10**9, per_s)
    return quotient.numerator // quotient.denominator + (quotient.denominator != 1)


def ways(units: list[Unit], chain: list[Station], batch: int) -> Iterator[Way]:
    """Every way to give each board a span and cuts within it such that all segments fit."""
    inner = range(1, len(units))
    for borders in itertools.combinations(inner, len(chain) - 1):
        spans = list(itertools.pairwise([0, *borders, len(units)]))
        choices = []
        for (start, end), at in zip(spans, chain, strict=True):
            subsets = (c for n in range(end - start) for c in itertools.combinations(range(start + 1, end), n))
            fits = [
                (start, end, c)
                for c in subsets
                if all(n.total <= at.board.budget_bytes for n in needs(units, at.board, c, batch, span=(start, end)))
            ]
            choices.append(fits)
        yield from (list(way) for way in itertools.product(*choices))


def figures(
    units: list[Unit], chain: list[Station], batch: int, way: list[tuple[int, int, tuple[int, ...]]]
) -> dict[str, Any]:
    """Segments, traffic, bytes within boards and the times of one way, summed by hand."""
    train = chain[0].board.mode == "train"
    times, links, traffic, inner = [], [], 0, 0
    for k, (start, end, cuts) in enumerate(way):
        speed, quant = chain[k].speed, chain[k].board.quant
        own = units[start:end]
        time = sum(
            (4 if train else 1)
            * max(
                ns(u.flops_per_item * batch, speed.flops_per_s),
                ns(u.weight_bytes[quant] + u.moved_bytes_per_item * batch, speed.bytes_per_s),
            )
            for u in own
        )
        if cuts:
            time += (2 if train else 1) * ns(sum(u.weight_bytes[quant] for u in own), speed.bytes_per_s)
        times.append(time)
        inner += sum(units[c - 1].boundary_bytes_per_item for c in cuts)
        if k < len(way) - 1:
            crossing = units[end - 1].boundary_bytes_per_item + units[end - 1].carried_bytes_per_item
            rate = min(speed.link_bytes_per_s, chain[k + 1].speed.link_bytes_per_s)
            traffic += crossing
            links.append((2 if train else 1) * ns(crossing * batch, rate))
    segments = sum(len(cuts) + 1 for _, _, cuts in way)
    return {
        "fewest": segments,
        "traffic": traffic,
        "throughput": Fraction(max([*times, *links]), batch),
        "latency": sum(times) + sum(links),
        "slowest": max([*times, *links]),
        "inner": inner,
        "batch": batch,
    }


def key(objective: str, found: dict[str, Any]) -> tuple[Any, ...]:
    """What is compared first, in this order."""
    return (found[objective], found["fewest"], -found["batch"])


def best_of(objective: str, found: list[dict[str, Any]]) -> tuple[Any, ...]:
    """The best of all ways: by the objective, segments and micro-batch, then nearly the least slowest part."""
    equal = [f for f in found if key(objective, f) == min(key(objective, g) for g in found)]
    least = min(f["slowest"] for f in equal)
    limit = least if objective == "throughput" else least + least // 20
    return (*key(objective, equal[0]), *min((f["traffic"], f["inner"]) for f in equal if f["slowest"] <= limit))


@settings(max_examples=200, deadline=None)
@given(models, chains, modes, st.sampled_from(OBJECTIVES))
def test_the_chain_is_optimal(units: list[Unit], chain: list[Station], mode: str, objective: Objective) -> None:
    """No borders and cuts at any micro-batch are better for any objective, and a refusal means that none fits."""
    chain = [replace(s, board=replace(s.board, mode=mode)) for s in chain]
    found = [figures(units, chain, b, way) for b in BATCHES for way in ways(units, chain, b)]
    by_batch = dict.fromkeys(BATCHES, units)
    if not found:
        with pytest.raises(DoesNotFit):
            across(by_batch, chain, objective)
        return
    decided = across(by_batch, chain, objective)
    way = [(s.start, s.end, s.decision.cuts) for s in decided.stages]
    own = figures(units, chain, decided.micro_batch, way)
    assert (*key(objective, own), own["traffic"], own["inner"]) == best_of(objective, found)
    assert decided.traffic_bytes == own["traffic"]
    assert [s.start for s in decided.stages[1:]] == [s.end for s in decided.stages[:-1]]
    for stage, at in zip(decided.stages, chain, strict=True):
        assert max(stage.decision.predicted_bytes) <= at.board.budget_bytes


@settings(max_examples=60, deadline=None)
@given(models, chains)
def test_the_refusal_names_a_budget_that_would_do(units: list[Unit], chain: list[Station]) -> None:
    """The named board with the named budget makes it fit, and so does the named budget for all of them."""
    chain = [replace(s, board=replace(s.board, name=f"b{k}")) for k, s in enumerate(chain)]
    try:
        across({1: units}, chain, "fewest")
    except DoesNotFit as refusal:
        words = str(refusal)
        single = re.search(r"--budget b(\d)=(\d+)", words)
        if single is not None:
            k, size = int(single[1]), int(single[2])
            assert size > chain[k].board.budget_bytes
            assert f"board {k + 1}, b{k}," in words
            raised = [
                replace(s, board=replace(s.board, budget_bytes=size)) if i == k else s for i, s in enumerate(chain)
            ]
            across({1: units}, raised, "fewest")
        elif len(units) < len(chain):
            assert "name fewer boards" in words
        else:
            assert "no one larger budget would do" in words
            for k in range(len(chain)):
                more = [
                    replace(s, board=replace(s.board, budget_bytes=UNLIMITED)) if i == k else s
                    for i, s in enumerate(chain)
                ]
                with pytest.raises(DoesNotFit):
                    across({1: units}, more, "fewest")


known_boards = st.lists(st.integers(0, 3 * MIB), min_size=1, max_size=4).map(
    lambda more: [KnownBoard(f"known-{k}", FIXED + size) for k, size in enumerate(more)]
)


@settings(max_examples=60, deadline=None)
@given(models, chains, known_boards)
def test_the_refusal_names_the_smallest_known_boards_that_would_do(
    units: list[Unit], chain: list[Station], known: list[KnownBoard]
) -> None:
    """In place of the boards that are short: the smallest that some borders and cuts fit, or that there is none."""
    chain = [replace(s, board=replace(s.board, name=f"b{k}")) for k, s in enumerate(chain)]
    if next(ways(units, chain, 1), None) is not None or len(units) < len(chain):
        return
    with pytest.raises(DoesNotFit) as caught:
        across({1: units}, chain, "fewest", known=known)
    words = str(caught.value)
    short = [int(k) for k in re.findall(r"board \d+, b(\d)", words)]

    def taken(budget_bytes: int) -> list[Station]:
        own = [max(budget_bytes, s.board.budget_bytes) if k in short else s.board.budget_bytes for k, s in pairs]
        return [replace(s, board=replace(s.board, budget_bytes=size)) for (_, s), size in zip(pairs, own, strict=True)]

    pairs = list(enumerate(chain))
    would = [one for one in known if next(ways(units, taken(one.budget_bytes), 1), None) is not None]
    if not would:
        assert "; no known board would do in" in words
        return
    least = min(one.budget_bytes for one in would)
    names = [one.name for one in would if one.budget_bytes == least]
    names += ["larger ones"] if any(one.budget_bytes > least for one in would) else []
    assert f"; of the known boards {' and '.join(', '.join(names).rsplit(', ', 1))} would do in the" in words.replace(
        "do in its", "do in the"
    )


THREE = [
    unit(weights=1000, boundary=9, flops=100, moved=10),
    unit(weights=1000, boundary=2, flops=100, moved=10),
    unit(weights=1000, boundary=7, flops=900, moved=10),
    unit(weights=1000, flops=100, moved=10),
]
PREFERENCES: dict[Objective, tuple[int, str]] = {
    "fewest": (2, "both halves fit at once wherever it is cut, so the slowest part decides: the link"),
    "traffic": (2, "fewest bytes cross before unit 2"),
    "throughput": (1, "the slow board gets the least that it can"),
    "latency": (2, "the link costs more than the slow board"),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_objective_chooses_its_own_border(objective: Objective) -> None:
    """A slow and a fast board, a link that matters: objectives differ in where they cut."""
    slow, fast = station("slow", UNLIMITED, 1, 1, 1), station("fast", UNLIMITED, 100, 100, 10)
    if objective == "throughput":
        slow = replace(slow, speed=replace(slow.speed, link_bytes_per_s=10**9))
        fast = replace(fast, speed=replace(fast.speed, link_bytes_per_s=10**9))
    decided = across({1: THREE}, [slow, fast], objective)
    border, why = PREFERENCES[objective]
    assert decided.cuts == (border,), why


def test_a_board_that_is_too_small_for_its_stage_runs_it_in_segments() -> None:
    """Several consecutive segments on one board, when the others have no room either."""
    units = [unit(weights=1000, boundary=1) for _ in range(6)]
    tight = FIXED + 2200 * KIB
    decided = across({1: units}, [station("a", tight), station("b", tight)], "fewest")
    assert [len(s.decision.cuts) + 1 for s in decided.stages] in ([1, 2], [2, 1])
    assert len(decided.cuts) == 2


def test_adapters_count_only_on_the_board_that_has_them() -> None:
    """A board without slots needs nothing for the adapters of another."""
    units = [unit(slot=200_000, boundary=1), unit(boundary=1)]
    decided = across({1: units}, [station("large", UNLIMITED), station("small", FIXED + 64 * KIB)], "fewest")
    assert (
        decided.stages[1].decision.predicted_bytes[0] < FIXED + 64 * KIB < decided.stages[0].decision.predicted_bytes[0]
    )


def test_refusal_in_words() -> None:
    """The board that is short is named, with its budget, what it would need, and other ways out."""
    units = [unit(weights=1000, boundary=1), unit(weights=50_000, boundary=1), unit(weights=1000)]
    chain = [station("zero", FIXED + 2 * MIB), station("four", FIXED + 8 * MIB)]
    with pytest.raises(DoesNotFit) as caught:
        across({4: units, 1: units}, chain, "traffic")
    words = str(caught.value)
    assert "across zero, four" in words
    assert f"board 2, four, has a budget of {mib(FIXED + 8 * MIB)} and would need " in words
    assert "--budget four=" in words
    assert "--sequence" in words
    assert "known boards" not in words  # where nobody has looked
    assert "(micro-batch 1; in the piece at layer: beside the runtime 48.8 MiB of weights, " in words


def test_what_takes_the_room_adds_up() -> None:
    """The parts that are named, and what allocators hold above the activations, make what the board would need."""
    units = [unit(weights=100, boundary=90), unit(weights=5000, kept=1000, boundary=70, slot=20_000), unit(weights=100)]
    chain = [station("zero", FIXED + 2 * MIB), station("four", FIXED + 8 * MIB), station("five", FIXED + 2 * MIB)]
    with pytest.raises(DoesNotFit, match="board 2, four") as caught:
        across({1: units}, chain, "fewest")
    stated = re.search(r"would need ([\d.]+) MiB .*beside the runtime (.+?)\); try", str(caught.value))
    assert stated is not None
    found = re.findall(r"([\d.]+) ([MK])iB of ([a-z ]+)", stated[2])
    parts = {name: float(size) / (1 if unit == "M" else 1024) for size, unit, name in found}
    expected = {
        "weights": 5000 / 1024,
        "activations": 2000 / 1024,
        "adapters and states": 20_000 * 4 / MIB,  # shown in KiB
        "tensors that wait between segments": 16 * (90 + 70) / 1024,
    }
    assert parts == pytest.approx(expected, abs=0.05)
    total = sum(parts.values()) + 0.12 * parts["activations"]
    assert abs(FIXED / MIB + total - float(stated[1])) < 0.35  # five rounded figures, bisected to 64 KiB


def test_a_refusal_of_a_chain_reckons_with_the_rank_of_the_larger_budget() -> None:
    """Where no rank is given a larger board in its place gets a larger one: what is named does with that."""
    heavy = unit(weights=200 * 1024, slot=45 * MIB // (4 * 2))  # 45 MiB at rank 2, 180 at rank 8
    chain = [station("zero", FIXED + MIB), station("four", 299 * MIB)]
    chain[1] = replace(chain[1], board=replace(chain[1].board, rank=None))
    known = [KnownBoard("short", FIXED + 300 * MIB), KnownBoard("enough", FIXED + 400 * MIB)]
    models = {1: [unit(boundary=1), heavy]}
    with pytest.raises(DoesNotFit, match="; of the known boards enough would do in its place; try") as caught:
        across(models, chain, "fewest", known=known)
    named = int(str(caught.value).split("--budget four=")[1].split(",")[0])
    chain[1] = replace(chain[1], board=replace(chain[1].board, budget_bytes=named))
    assert across(models, chain, "fewest").stages[1].decision.rank == 8
    assert abs(named - FIXED - 380 * MIB) < 2 * MIB


def test_two_boards_that_are_too_small() -> None:
    """When no one larger board helps, all that are short are named, with what would do for each."""
    units = [unit(weights=5000, boundary=1), unit(boundary=1), unit(weights=5000)]
    chain = [station("zero", FIXED), station("four", FIXED + 90 * MIB), station("five", FIXED)]
    stated = r"no one larger budget would do: board 1, zero .* and board 3, five .* ([\d.]+) MiB for each"
    with pytest.raises(DoesNotFit, match=stated) as caught:
        across({1: units}, chain, "fewest")
    enough = re.search(stated, str(caught.value))
    assert enough is not None
    assert 0 <= float(enough[1]) - (FIXED + 5000 * KIB) / MIB < 0.2  # bisected to 64 KiB


def test_more_boards_than_pieces() -> None:
    """A board for which nothing is left is refused, not passed over."""
    with pytest.raises(DoesNotFit, match=r"a piece for each of 2 boards \(a, b\), found 1 piece .*fewer boards"):
        across({1: [unit()]}, [station("a", UNLIMITED), station("b", UNLIMITED)], "fewest")


def test_every_profile_has_rates_with_their_sources() -> None:
    """Rates come from the profile; what nobody measured says so."""
    for name in names():
        speed = speed_of(load(name))
        assert min(speed.flops_per_s, speed.bytes_per_s) >= 10**8
        assert speed.link_bytes_per_s >= SLOWEST_LINK
        assert "unverified" in speed.source
    assert speed_of(load("raspberry-pi-4-2gb")).link_bytes_per_s == 125_000_000
    assert "sbc-bench" in speed_of(load("raspberry-pi-4-2gb")).source
