"""Where fronts end, against every border and every subset of cuts, and the words when nothing fits."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import DoesNotFit, UsageError
from devices.enough import KnownBoard
from devices.fronts import BoardSplit, Front, as_tail, ends_of, split
from devices.memory import MIB
from devices.plan import Board, needs
from devices.units import Unit
from tests.devices.test_across import FIXED, KIB, UNLIMITED, boards, models

STEP = 4


def crossing(units: list[Unit], end: int) -> int:
    """Bytes of an item at a border."""
    return units[end - 1].boundary_bytes_per_item + units[end - 1].carried_bytes_per_item


def fits(units: list[Unit], board: Board, cuts: tuple[int, ...], batch: int, span: tuple[int, int]) -> bool:
    """Whether every segment is within the budget."""
    return all(need.total <= board.budget_bytes for need in needs(units, board, cuts, batch, STEP, span))


def cuts_that_fit(
    units: list[Unit], board: Board, batch: int, end: int, forced: tuple[int, ...] = ()
) -> tuple[int, tuple[int, ...]] | None:
    """Of all subsets of cuts that fit the number and the bytes of the fewest, forced ones among them."""
    ways = [
        cuts
        for count in range(end)
        for cuts in itertools.combinations(range(1, end), count)
        if set(forced) <= set(cuts) and fits(units, board, cuts, batch, (0, end))
    ]
    return min(((len(c), tuple(c)) for c in ways), default=None)


def deepest(units: list[Unit], board: Board, batch: int) -> int | None:
    """By the rule in words: one segment, an adapter in it, one left where that can be."""
    slots = [k for k, unit in enumerate(units) if unit.adapter_values_per_rank]
    ends = [e for e in range(slots[0] + 1, len(units)) if fits(units, board, (), batch, (0, e))]
    ends = [e for e in ends if e <= slots[-1]] or ends
    if not ends:
        return None
    work = [sum(unit.flops_per_item for unit in units[:e]) for e in range(len(units) + 1)]
    deep = [e for e in ends if 2 * work[e] >= work[ends[-1]]]
    cheap = [e for e in deep if 4 * crossing(units, e) <= 5 * min(crossing(units, d) for d in deep)]
    return cheap[-1]


@settings(deadline=None, max_examples=150)
@given(units=models, some=st.lists(boards, min_size=1, max_size=2), given_border=st.integers(0, 5))
def test_fronts_are_the_deepest_that_fit(units: list[Unit], some: list[Board], given_border: int) -> None:
    """Borders, cuts and micro-batch are those that trying all of them finds, or nothing fits at any micro-batch."""
    if not ends_of(units):
        return
    tail = Board("hall", UNLIMITED, "train", "fp32", 1)
    border = given_border if given_border in ends_of(units) else None
    fronts = tuple(Front(replace(board, rank=2), border if k == 0 else None) for k, board in enumerate(some))
    by_batch = {}
    for batch in (4, 1):
        ends = [f.border or deepest(units, f.board, batch) for f in fronts]
        cuts = [
            None if end is None else cuts_that_fit(units, f.board, batch, end) if f.border else (0, ())
            for f, end in zip(fronts, ends, strict=True)
        ]
        if all(end is not None for end in ends) and all(found is not None for found in cuts):
            by_batch[batch] = (ends, [found[0] for found in cuts if found is not None])
    try:
        plan = split({4: units, 1: units}, BoardSplit(fronts, tail), STEP)
    except DoesNotFit:
        assert not by_batch
        return
    batch = max(by_batch)
    ends, counts = by_batch[batch]
    assert plan.micro_batch == batch
    assert [front.end for front in plan.fronts] == ends
    assert [len(front.decision.cuts) for front in plan.fronts] == counts
    assert set(plan.borders) <= set(plan.tail.cuts)
    least = cuts_that_fit(units, tail, batch, len(units), plan.borders)
    assert least is not None
    assert len(plan.tail.cuts) == least[0]
    for front, stage in zip(fronts, plan.fronts, strict=True):
        assert fits(units, front.board, stage.decision.cuts, batch, (0, stage.end))


def model(count: int = 6, slot: int = 64) -> list[Unit]:
    """Equal units of one MiB, the first without an adapter."""
    formats = {"fp32": 1024 * KIB, "int8": 256 * KIB}
    return [
        Unit(f"block.{k}", formats, 256 * KIB, 0, 4 * KIB, slot if k else 0, flops_per_item=10) for k in range(count)
    ]


def board(name: str, budget_bytes: int) -> Board:
    """One that trains float32 at rank 2."""
    return Board(name, budget_bytes, "train", "fp32", 2)


def test_boards_of_different_budgets_end_at_different_units() -> None:
    """More memory is a deeper front, the tail is cut at both, and the micro-batch is one."""
    small, large = FIXED + 4 * MIB, FIXED + 7 * MIB
    fronts = (Front(board("small", small)), Front(board("large", large)))
    plan = split({1: model()}, BoardSplit(fronts, board("hall", UNLIMITED)))
    first, second = (front.end for front in plan.fronts)
    assert ends_of(model())[0] <= first < second < 6
    assert plan.tail.cuts == (first, second) == plan.borders
    assert {front.decision.micro_batch for front in plan.fronts} == {plan.micro_batch} == {1}
    assert f"front of {first} of 6 units" in plan.fronts[0].decision.reasons[2]


def test_a_board_that_holds_no_front_is_told_what_would_do() -> None:
    """The board that is short by least comes first, with a budget that does, and with known boards that would."""
    fronts = (Front(board("tiny", FIXED)), Front(board("less", FIXED + MIB)))
    known = [KnownBoard("stone", FIXED), KnownBoard("rock", FIXED + 64 * MIB)]
    with pytest.raises(DoesNotFit) as refusal:
        split({1: model()}, BoardSplit(fronts, board("hall", UNLIMITED)), known=known)
    words = str(refusal.value)
    assert words.startswith("expected a front of this model to train on less within ")
    assert "of the known boards rock would do in its place" in words
    assert "tiny would need more as well" in words
    found = re.search(r"--budget less=(\d+)", words)
    assert found is not None
    enough = int(found[1])
    fine = split({1: model()}, BoardSplit((Front(board("less", enough)),), board("hall", UNLIMITED)))
    assert fine.fronts[0].end == ends_of(model())[0]
    with pytest.raises(DoesNotFit):
        split({1: model()}, BoardSplit((Front(board("less", enough - 70 * KIB)),), board("hall", UNLIMITED)))


def test_a_front_that_runs_forward_only_is_planned_by_its_own_numbers() -> None:
    """Where no backward graph of a front fits the words say that forward passes do, and then the front is there."""
    deep = [replace(unit, kept_bytes_per_item=8 * MIB) for unit in model()]
    budget, hall = FIXED + 5 * MIB, board("hall", UNLIMITED)
    small = board("small", budget)
    with pytest.raises(DoesNotFit, match=r"--mode train-forward \(such a front fits, and learns by differences\)"):
        split({1: deep}, BoardSplit((Front(small),), hall), forward={1: model()})

    forward = replace(small, mode="train-forward")
    plan = split({1: deep}, BoardSplit((Front(forward),), hall), forward={1: model()})

    (front,) = plan.fronts
    found = needs(model(), forward, front.decision.cuts, 1, span=(0, front.end))
    assert front.decision.predicted_bytes == tuple(need.total for need in found)
    assert max(front.decision.predicted_bytes) <= budget
    assert "learns by differences" in front.decision.reasons[-1]
    with pytest.raises(DoesNotFit) as refusal:
        split({1: deep}, BoardSplit((Front(replace(forward, budget_bytes=FIXED)),), hall), forward={1: model()})
    assert "--mode" not in str(refusal.value)
    assert as_tail(forward).mode == "train"


def test_a_tail_that_does_not_fit_is_told_what_would_do() -> None:
    """The tail is named with a budget that does."""
    fronts = (Front(board("a", UNLIMITED)),)
    with pytest.raises(DoesNotFit, match="expected hall to hold the whole model as tail within") as refusal:
        split({1: model()}, BoardSplit(fronts, board("hall", FIXED)))
    found = re.search(r"--budget hall=(\d+)", str(refusal.value))
    assert found is not None
    assert split({1: model()}, BoardSplit(fronts, board("hall", int(found[1])))).tail.micro_batch == 1


@pytest.mark.parametrize("border", [1, 6, 9])
def test_a_border_that_leaves_no_front_or_no_tail_is_refused(border: int) -> None:
    """A front without an adapter trains nothing, and one of all units needs no tail."""
    fronts = (Front(board("a", UNLIMITED), border),)
    with pytest.raises(UsageError, match=rf"expected the border of a at unit 2 to 5 of 6 .*, found {border}"):
        split({1: model()}, BoardSplit(fronts, board("hall", UNLIMITED)))


def test_a_model_without_a_cut_above_its_adapters_is_refused() -> None:
    """Where the only adapter is in the last unit there is nothing to split."""
    units = [*model(3, slot=0), *model(2)[1:]]
    with pytest.raises(UsageError, match="expected a legal cut above the lowest adapter"):
        split({1: units}, BoardSplit((Front(board("a", UNLIMITED)),), board("hall", UNLIMITED)))
