"""The planner against brute force over all cuts, and its words when nothing fits."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import DoesNotFit, UsageError
from console.table import mib
from devices.enough import KnownBoard
from devices.memory import MIB, Need
from devices.plan import MICRO_BATCHES, Board, fewest_cuts, needs, plan
from devices.ranks import rank_for
from devices.trunk import trunk_cut
from devices.units import Unit

FIXED = Need(0, 0).total


def unit(weights: int = 0, kept: int = 0, transient: int = 0, boundary: int = 0, slot: int = 0) -> Unit:
    """A unit in KiB; its int8 weights are a quarter."""
    kib = 1024
    formats = {"fp32": weights * kib, "int8": weights * kib // 4}
    return Unit(
        "layer", formats, kept * kib, transient * kib, boundary * kib, slot, {"int8": {str(weights): weights * kib}}
    )


sizes = st.integers(0, 400)
models = st.lists(st.builds(unit, sizes, sizes, sizes, st.integers(0, 60), st.integers(0, 50)), min_size=1, max_size=7)
boards = st.builds(
    Board,
    name=st.just("board"),
    budget_bytes=st.integers(FIXED, FIXED + 6 * MIB),
    mode=st.sampled_from(["train", "serve", "train-forward"]),
    quant=st.sampled_from(["fp32", "int8"]),
    rank=st.integers(0, 8),
)


def brute_force(units: list[Unit], board: Board, needed: frozenset[int] = frozenset()) -> tuple[int, int, int] | None:
    """The least (segments, minus micro-batch, boundary bytes) over every subset of cuts that has those needed."""
    best = None
    for micro_batch in MICRO_BATCHES:
        for count in range(len(units)):
            for cuts in itertools.combinations(range(1, len(units)), count):
                if needed <= set(cuts) and all(
                    n.total <= board.budget_bytes for n in needs(units, board, cuts, micro_batch)
                ):
                    found = (count + 1, -micro_batch, sum(units[c - 1].boundary_bytes_per_item for c in cuts))
                    best = found if best is None else min(best, found)
    return best


@pytest.mark.parametrize(
    ("mode", "quant", "live"), [("serve", "int8", 50), ("train", "int8", 70), ("serve", "fp32", 0)]
)
def test_a_dequantized_buffer_waits_for_the_last_weight_of_its_shape(mode: str, quant: str, live: int) -> None:
    """Of four weights the first and third have one shape, which waits beside the second; in training all wait."""
    units = [unit(weights=kib) for kib in (40, 10, 40, 20)]
    (need,) = needs(units, Board("board", 0, mode, quant, 0), (), 1)
    assert need.live == live * 1024


def test_states_are_fed_in_one_segment_and_copied_in_all() -> None:
    """A segment has its own states as they are fed, and beside them the board's as they were returned."""
    units = [replace(unit(), state_bytes=300), replace(unit(), state_bytes=50)]
    first, second = needs(units, Board("board", 0, "serve", "fp32", 0), (1,), 1)
    assert (first.live, second.live) == (300, 50)
    assert first.adapters == second.adapters == 350


@settings(max_examples=150, deadline=None)
@given(models, boards)
def test_the_plan_is_optimal(units: list[Unit], board: Board) -> None:
    """No subset of cuts at any micro-batch is better than the plan, and a refusal means that none fits."""
    expected = brute_force(units, board)
    if expected is None:
        with pytest.raises(DoesNotFit):
            plan(units, board)
        return
    decision = plan(units, board)
    boundary = sum(units[c - 1].boundary_bytes_per_item for c in decision.cuts)
    assert (len(decision.cuts) + 1, -decision.micro_batch, boundary) == expected
    assert max(decision.predicted_bytes) <= board.budget_bytes
    assert decision.rank == board.rank


@settings(max_examples=100, deadline=None)
@given(models, boards)
def test_a_plan_with_the_trunk_apart_is_optimal_among_those_with_its_cut(units: list[Unit], board: Board) -> None:
    """It cuts where the trunk ends, no subset of cuts with that one is better, and below it there is no slot."""
    board = replace(board, trunk="apart")
    try:
        end = trunk_cut(units)
    except UsageError:
        assert units[0].adapter_values_per_rank or not any(unit.adapter_values_per_rank for unit in units)
        return
    expected = brute_force(units, board, frozenset([end]))
    if expected is None:
        with pytest.raises(DoesNotFit):
            plan(units, board)
        return
    decision = plan(units, board)
    boundary = sum(units[c - 1].boundary_bytes_per_item for c in decision.cuts)
    assert (len(decision.cuts) + 1, -decision.micro_batch, boundary) == expected
    assert end in decision.cuts
    assert not any(unit.adapter_values_per_rank for unit in units[:end])


def test_a_slot_in_the_first_unit_leaves_no_trunk() -> None:
    """Asked for, it is refused with what to do."""
    with pytest.raises(UsageError, match="below its lowest adapter, found none; choose other --adapter-targets"):
        plan([unit(slot=1), unit()], Board("board", 1 << 40, trunk="apart"))


@settings(max_examples=100, deadline=None)
@given(models, boards)
def test_a_larger_budget_never_needs_more_segments(units: list[Unit], board: Board) -> None:
    """The number of segments falls, or stays, as the budget grows."""
    small = fewest_cuts(units, board, 1)
    large = fewest_cuts(units, replace(board, budget_bytes=board.budget_bytes + MIB), 1)
    if small is not None:
        assert large is not None
        assert len(large) <= len(small)


@settings(max_examples=40, deadline=None)
@given(models, boards)
def test_the_refusal_names_a_budget_that_is_enough(units: list[Unit], board: Board) -> None:
    """The smallest need that a refusal names is enough, and at most 64 KiB above what is not."""
    try:
        plan(units, replace(board, budget_bytes=FIXED - 1))
    except DoesNotFit as refusal:
        named = int(str(refusal).split("--budget of ")[1].split(" bytes")[0])
        assert max(plan(units, replace(board, budget_bytes=named)).predicted_bytes) <= named
        assert fewest_cuts(units, replace(board, budget_bytes=named - 65 * 1024), 1) is None


known_boards = st.lists(st.integers(0, 3 * MIB), min_size=1, max_size=5).map(
    lambda more: [KnownBoard(f"known-{k}", FIXED + size) for k, size in enumerate(more)]
)


@settings(max_examples=100, deadline=None)
@given(models, boards, known_boards)
def test_a_refusal_names_the_smallest_known_boards_that_would_do(
    units: list[Unit], board: Board, known: list[KnownBoard]
) -> None:
    """The smallest of the known boards that some subset of cuts fits, all of that size, or that there is none."""
    with pytest.raises(DoesNotFit) as caught:
        plan(units, replace(board, budget_bytes=FIXED - 1), (1,), known=known)
    inner = range(1, len(units))
    ways = [c for n in range(len(units)) for c in itertools.combinations(inner, n)]
    need = min(max(part.total for part in needs(units, board, cuts, 1)) for cuts in ways)
    enough = [one for one in known if one.budget_bytes >= need]
    if not enough:
        assert "; no known board would do; try" in str(caught.value)
        return
    least = min(one.budget_bytes for one in enough)
    names = [one.name for one in enough if one.budget_bytes == least]
    names += ["larger ones"] if any(one.budget_bytes > least for one in enough) else []
    assert f"; of the known boards {' and '.join(', '.join(names).rsplit(', ', 1))} would do; try" in str(caught.value)


def test_a_refusal_reckons_with_the_rank_of_the_larger_budget() -> None:
    """Where no rank is given a larger board gets a larger one: what is named does with that, boards likewise."""
    units = [unit(weights=200 * 1024, slot=45 * MIB // (4 * 4 * 2))]  # 45 MiB of training's four copies at rank 2
    need = {rank: FIXED // MIB + 200 + size for rank, size in {2: 45, 8: 180}.items()}
    assert 300 < need[2] < need[8] < 2048
    known = [KnownBoard("of-rank-2", 299 * MIB), KnownBoard("short", (need[2] + 9) * MIB)]
    known += [KnownBoard("enough", (need[8] + 2) * MIB), KnownBoard("ample", 3000 * MIB)]
    board = Board("zero", 299 * MIB, "train", "fp32", None)
    with pytest.raises(DoesNotFit, match="of the known boards enough and larger ones would do") as caught:
        plan(units, board, (1,), known=known)
    named = int(str(caught.value).split("--budget of ")[1].split(" bytes")[0])
    assert plan(units, replace(board, budget_bytes=named), (1,)).rank == 8
    with pytest.raises(DoesNotFit):
        plan(units, replace(board, budget_bytes=named - 65 * 1024), (1,))


def test_a_larger_board_of_a_larger_rank_may_not_do() -> None:
    """From 2 GiB the rank is 16 and adapters are twice those of rank 8: only the smaller board is named."""
    units = [unit(weights=1000 * 1024, slot=700 * MIB // (4 * 4 * 8))]
    known = [KnownBoard("below", 1900 * MIB), KnownBoard("above", 2050 * MIB)]
    with pytest.raises(DoesNotFit, match="; of the known boards below would do; try"):
        plan(units, Board("zero", 299 * MIB, "train", "fp32", None), (1,), known=known)


def test_what_takes_the_room_adds_up() -> None:
    """The parts that are named, and what allocators hold above the activations, make the smallest need."""
    units = [unit(weights=4096, kept=2000, boundary=50, slot=30), unit(weights=8192, kept=900, transient=3000, slot=9)]
    with pytest.raises(DoesNotFit) as caught:
        plan(units, Board("zero", FIXED, "train", "fp32", 8), (1,))
    words = str(caught.value)
    stated = re.search(r"over all cuts is ([\d.]+) MiB .*beside the runtime (.+?)\); try", words)
    assert stated is not None
    found = re.findall(r"([\d.]+) ([MK])iB of ([a-z ]+)", stated[2])
    parts = {name: float(size) / (1 if unit == "M" else 1024) for size, unit, name in found}
    assert set(parts) == {"weights", "activations", "adapters and states", "tensors that wait between segments"}
    total = sum(parts.values()) + 0.12 * parts["activations"]
    assert abs(FIXED / MIB + total - float(stated[1])) < 0.35  # five rounded figures, bisected to 64 KiB


LADDER = {
    # three equal units; what a budget above the fixed part gives
    "everything fits": (30_000, (8, ())),
    "a smaller micro-batch comes before a cut": (4_500, (1, ())),
    "then two segments": (2_700, (1, (1,))),
}


@pytest.mark.parametrize("case", LADDER)
def test_the_ladder(case: str) -> None:
    """Micro-batches shrink first; cuts come when the smallest one does not fit."""
    budget_kib, (micro_batch, cuts) = LADDER[case]
    units = [unit(kept=1000, transient=200, slot=1) for _ in range(3)]
    decision = plan(units, Board("zero", FIXED + budget_kib * 1024, "train", "fp32", 0))
    assert (decision.micro_batch, decision.cuts) == (micro_batch, cuts)


def test_the_cheaper_of_two_cuts_wins() -> None:
    """With one cut needed, it goes where fewest bytes cross."""
    units = [unit(kept=500, boundary=40), unit(kept=500, boundary=3), unit(kept=500, boundary=40), unit(kept=500)]
    decision = plan(units, Board("zero", FIXED + 1900 * 1024, "train", "fp32", 0))
    assert decision.cuts == (2,)


def test_refusal_in_words() -> None:
    """A board that no cut fits is named with its budget, the smallest need and every way out."""
    units = [unit(weights=4096), unit(weights=8192)]
    with pytest.raises(DoesNotFit) as caught:
        plan(units, Board("raspberry-pi-zero-2w", FIXED, "train", "fp32", 2))
    words = str(caught.value)
    assert "raspberry-pi-zero-2w" in words
    assert f"budget of {mib(FIXED)}" in words
    stated = re.search(r"smallest predicted need over all cuts is ([\d.]+) MiB", words)
    assert stated is not None
    assert -0.05 <= float(stated[1]) - FIXED / MIB - 8 < 0.2  # rounded, bisected to 64 KiB, and what the adapters take
    for way in ("beside the runtime 8.0 MiB of weights", "--budget", "--sequence", "--quant int8", "--mode serve"):
        assert way in words


def test_ways_out_that_are_already_taken_are_not_offered() -> None:
    """Nobody is told to try what they did."""
    with pytest.raises(DoesNotFit) as caught:
        plan([unit(weights=40960)], Board("zero", FIXED, "serve", "int8", 2))
    assert "--quant" not in str(caught.value)
    assert "--mode" not in str(caught.value)


@pytest.mark.parametrize(("budget_mib", "rank"), [(299, 2), (300, 8), (2047, 8), (2048, 16), (8000, 16)])
def test_ranks_by_memory(budget_mib: int, rank: int) -> None:
    """Ranks 2, 8 and 16 at the borders of 300 MiB and 2 GiB."""
    assert rank_for(budget_mib * MIB) == rank


def test_a_given_rank_wins() -> None:
    """What the user says is not overruled, and the reasons say so."""
    decision = plan([unit(slot=10)], Board("zero", 8192 * MIB, rank=3))
    assert decision.rank == 3
    assert decision.reasons[0] == "rank 3"
