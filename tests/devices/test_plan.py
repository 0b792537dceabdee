"""The planner against brute force over all cuts, and its words when nothing fits."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import DoesNotFit
from console.table import mib
from devices.memory import MIB, Need
from devices.plan import MICRO_BATCHES, Board, Unit, fewest_cuts, needs, plan, rank_for

FIXED = Need(0, 0).total


def unit(weights: int = 0, kept: int = 0, transient: int = 0, boundary: int = 0, slot: int = 0) -> Unit:
    """A unit in KiB; its int8 weights are a quarter."""
    kib = 1024
    formats = {"fp32": weights * kib, "int8": weights * kib // 4}
    return Unit("layer", formats, kept * kib, transient * kib, boundary * kib, slot, {str(weights): weights * kib})


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


def brute_force(units: list[Unit], board: Board) -> tuple[int, int, int] | None:
    """The least (segments, minus micro-batch, boundary bytes) over every subset of cuts."""
    best = None
    for micro_batch in MICRO_BATCHES:
        for count in range(len(units)):
            for cuts in itertools.combinations(range(1, len(units)), count):
                if all(n.total <= board.budget_bytes for n in needs(units, board, cuts, micro_batch)):
                    found = (count + 1, -micro_batch, sum(units[c - 1].boundary_bytes_per_item for c in cuts))
                    best = found if best is None else min(best, found)
    return best


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
