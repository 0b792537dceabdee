"""The plan of a fleet: what it says holds, and where there is none the words say what is missing."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import DoesNotFit, UsageError
from devices.enough import KnownBoard
from devices.latency import Curve, Latency
from devices.memory import MIB
from devices.plan import Board, needs
from devices.split.fleet_plan import Captured, FleetPlan, parse_fleet_plan, plan_bytes
from devices.split.planner import plan_fleet
from devices.split.steady import why_again
from devices.split.work import WHOLE, Importance, Member, ModelWork, SlotWork, Terms, shares
from devices.times import UNKNOWN, Speed, ns, unit_ns
from tests.devices.split.fleets import FIXED, QUICK, SLOW, TAIL, boards, models, shares_of, unit
from wire.work import Work

HOW = Captured("model", "feature-extraction", 64, 2)
TERMS = Terms(steps=3, batches=(4,))
KNOWN = (KnownBoard("pi-1", FIXED + 6 * MIB), KnownBoard("pi-2", FIXED + 900 * MIB), KnownBoard("pi-0", FIXED))


def board(name: str, room_kib: int, speed: Speed = SLOW, **more: object) -> Member:
    """A board with so much above what a worker takes before it holds anything."""
    trainers = more.pop("trainers", ("backprop", "split", "local", "forward", "spry"))
    made = Board(name, FIXED + room_kib * 1024, **more)  # type: ignore[arg-type]
    return Member(made, speed, ("int8",), trainers)  # type: ignore[arg-type]


def model(kept: int = 200, end: int = 12_000, micro_batches: tuple[int, ...] = (2, 1)) -> ModelWork:
    """A table, then four blocks with a slot each, then an end that by default is too large for small boards."""
    middle = [unit(f"block{k}", 200, kept, 8, 500) for k in range(4)]
    units = [unit("table", 800, 10, 8), *middle, unit("end", end, 4, 8)]
    forward = [replace(one, kept_bytes_per_item=0) for one in units]
    by = {(m, mode): own for m in micro_batches for mode, own in (("train", units), ("train-forward", forward))}
    return ModelWork(by, tuple(SlotWork(f"slot{k}", k + 1, 500, 1000) for k in range(4)), head_values=100)


def planned(work: ModelWork, members: list[Member], tail: Member | None = TAIL, terms: Terms = TERMS) -> FleetPlan:
    """By uniform importance."""
    return plan_fleet(work, members, tail, terms, Importance(shares(work.slots)), HOW, KNOWN)


@settings(max_examples=60, deadline=None)
@given(models(), st.lists(boards, min_size=1, max_size=3), st.lists(st.integers(0, 9), min_size=5, max_size=5))
def test_what_a_plan_says_holds(work: ModelWork, members: list[Member], weights: list[int]) -> None:
    """A plan reads as it was written, and every board and the tail need what it says, within their budgets."""
    members = [replace(m, board=replace(m.board, name=f"b{k}")) for k, m in enumerate(members)]
    try:
        plan = plan_fleet(work, members, TAIL, TERMS, Importance(shares_of(work, weights)), HOW, KNOWN)
    except DoesNotFit:
        return
    assert parse_fleet_plan(plan_bytes(plan), "plan.json") == plan
    units, values = work.units[plan.micro_batch, "train"], {slot.name: slot.values_per_rank for slot in work.slots}
    for made, member in zip(plan.boards, members, strict=True):
        own = replace(member.board, quant=made.quant, rank=0)
        found = needs(units, own, made.cuts, plan.micro_batch, made.batch, (0, made.border))
        adapters = 16 * sum(values[name] * rank for name, rank in made.ranks.items())
        assert made.memory_bytes == max(n.total for n in found) + adapters <= made.budget_bytes
        assert all(slot.unit < made.border for slot in work.slots if slot.name in made.ranks)
        assert all(rank in member.ranks for rank in made.ranks.values())
    if plan.tail is not None:
        assert plan.tail.ranks
        assert {slot.name for slot in work.slots if slot.unit >= min(plan.tail.borders)} == set(plan.tail.ranks)
        assert plan.tail.memory_bytes <= plan.tail.budget_bytes


def test_times_are_those_of_a_board_that_was_probed() -> None:
    """A board with a latency table is planned for by it, whatever its rates: here a node of a millisecond per unit."""
    work, nodes = model(), Latency("measured: a test", (Curve("Add", "fp32", 1, ((1000,),), (10**6,), {}),))
    works = {"int8": ((Work("Add", "fp32", (1000,)),), ())}
    units = {key: [replace(one, works=works) for one in own] for key, own in work.units.items()}
    probed = replace(QUICK, latency=nodes)
    plan = planned(replace(work, units=units), [board("whole", 60_000, probed)], None, Terms(steps=3, batches=(4,)))
    assert plan.boards[0].step_ns == 2 * (1 * 10**6 + 5 * 10**6 * 9 // 4)  # runs; no slot is in the first unit


def test_boards_of_unequal_memory_hold_parts_of_unequal_depth() -> None:
    """The more memory, the more of the importance; who has no room for the end holds a front, and all share a tail."""
    work = model()
    plan = planned(work, [board("small", 1000), board("middle", 1100), board("large", 60_000)])
    small, middle, large = plan.boards
    assert small.border <= middle.border < large.border == len(plan.units)
    assert 0 < small.covered < middle.covered <= large.covered == pytest.approx(1, abs=1e-6)
    assert (small.trainer, large.trainer) == ("split", "backprop")
    assert plan.tail is not None
    assert plan.tail.borders == tuple(sorted({b.border for b in plan.boards if b.in_front}))
    assert {reason.choice for reason in small.reasons} >= {"part", "trainer", "ranks", "format", "memory", "time"}


def test_a_rank_that_is_given_is_every_slots() -> None:
    """A board whose rank somebody chose has that one, or none at a slot."""
    plan = planned(model(), [board("large", 60_000, rank=5)])
    assert set(plan.boards[0].ranks.values()) == {5}


def test_important_slots_get_the_higher_ranks() -> None:
    """Where memory is short, a slot that matters more never gets less than one that matters less."""
    work = model(micro_batches=(2,))
    one = board("large", 60_000)
    whole = planned(work, [one]).boards[0]
    tight = replace(one, board=replace(one.board, budget_bytes=whole.memory_bytes - 16 * 500 * 32))
    importance = Importance({f"slot{k}": WHOLE * share // 16 for k, share in enumerate((1, 2, 4, 9))})
    ranks = plan_fleet(work, [tight], None, TERMS, importance, HOW).boards[0].ranks
    given_ranks = [ranks.get(f"slot{k}", 0) for k in range(4)]
    assert given_ranks == sorted(given_ranks)
    assert given_ranks[0] < given_ranks[-1]


def test_a_slow_link_makes_a_front_learn_alone() -> None:
    """Where a step would wait for the link longer than it computes, local mode is planned, and the words say so."""
    slow = replace(SLOW, link_bytes_per_s=100)
    told = planned(model(), [board("small", 1000, slow)]).boards[0]
    assert told.trainer == "local"
    why = next(reason.why for reason in told.reasons if reason.choice == "trainer")
    assert "would wait" in why
    assert "--trainer split" in why
    forced = planned(model(), [board("small", 1000, slow, trainers=("split",))]).boards[0]
    assert forced.trainer == "split"
    assert forced.step_ns > 10 * told.step_ns


def test_without_a_tail_a_small_board_learns_by_differences() -> None:
    """A board whose backward passes do not fit is planned forward-only, and told what a tail would change."""
    made = planned(model(kept=2000, end=4), [board("small", 2200)], tail=None).boards[0]
    assert (made.trainer, made.mode) == ("spry", "train-forward")
    assert any("--tail" in reason.why for reason in made.reasons)


def test_with_a_tail_it_holds_a_front_that_runs_forward() -> None:
    """Where no backward pass of any front fits, a small front is planned without, and the tail has the rest."""
    work, small = model(kept=2000), board("small", 2200)
    with pytest.raises(DoesNotFit):
        planned(work, [replace(small, trainers=("backprop", "split", "local"))])
    plan = planned(work, [small])
    (made,) = plan.boards
    assert (made.trainer, made.mode, set(made.ranks)) == ("forward", "train-forward", {"slot0"})
    assert made.memory_bytes <= made.budget_bytes
    assert plan.tail is not None
    assert plan.tail.borders == (made.border,)
    assert any("a small front" in reason.why for reason in made.reasons)
    micro, border = plan.micro_batch, made.border
    front = sum(
        unit_ns(one, "int8", "train-forward", micro, SLOW) for one in work.units[micro, "train-forward"][:border]
    )
    forward = sum(unit_ns(one, "fp32", "serve", micro, QUICK) for one in work.units[micro, "train"][border:])
    behind = -(-9 * forward // 4)  # the tail's only segment, in one backward graph
    crosses = ns(made.batch * 2 * int(np.ceil(8 * 1024 * 0.26)), SLOW.link_bytes_per_s)
    assert made.step_ns == made.batch // micro * (17 * front + behind) + crosses
    assert parse_fleet_plan(plan_bytes(plan), "plan.json") == plan


def test_a_front_that_runs_forward_ends_where_little_crosses() -> None:
    """Not behind the first slot, if twice as much crosses there as a little later; and not in the latter half."""
    work = model(kept=2000)
    units = {
        key: [replace(u, boundary_bytes_per_item=16 * 1024) if k == 1 else u for k, u in enumerate(own)]
        for key, own in work.units.items()
    }
    units = {key: [*own[:4], replace(own[4], boundary_bytes_per_item=1024), own[5]] for key, own in units.items()}
    plan = planned(replace(work, units=units), [board("small", 2200)])
    assert set(plan.boards[0].ranks) == {"slot0", "slot1"}


def test_what_is_missing_is_named_with_the_cheapest_addition() -> None:
    """Of boards that hold nothing, each is named with its need; a tail is offered where it would do, else a board."""
    exact = ("backprop", "split")
    with pytest.raises(DoesNotFit) as refusal:
        planned(model(), [board("small", 1000, trainers=exact), board("large", 60_000)], tail=None)
    words = str(refusal.value)
    assert "small cannot" in words
    assert "large" not in words
    assert "the cheapest addition: --tail NAME" in words
    assert "small the units before block" in words
    assert "(pi-1 would do)" in words
    with pytest.raises(DoesNotFit) as refusal:
        planned(model(), [board("small", 10), board("tiny", 20)])
    words = str(refusal.value)
    assert "small, tiny cannot" in words
    assert words.count("(pi-1 would do in its place)") == 2
    assert "cheapest addition" not in words


def test_the_budget_that_a_refusal_names_would_do() -> None:
    """With the memory that is asked for the plan is there, and with 64 KiB and a page less it is not."""
    for budget in itertools.count(FIXED + 100 * 1024, 64 * 1024):
        one = replace(board("small", 0, trainers=("backprop",)), board=Board("small", budget))
        try:
            planned(model(), [one], tail=None)
            break
        except DoesNotFit as error:
            words = str(error)
    assert f"needs {(budget - 64 * 1024) / MIB:.1f} MiB" in words or f"needs {budget / MIB:.1f} MiB" in words


def test_a_tail_that_is_too_small_is_named() -> None:
    """Fronts that fit are of no use without who holds the rest: its need, and a board that would do."""
    little = replace(TAIL, board=Board("server", FIXED + 500 * 1024), quants=("int8",))
    with pytest.raises(DoesNotFit, match=r"expected server to hold what lies behind .* \(pi-. would do\)"):
        planned(model(), [board("small", 1000, trainers=("split",))], tail=little)


def test_a_deadline_that_no_round_keeps_is_refused() -> None:
    """The boards that are too slow are named with the time that they take at least."""
    terms = Terms("time", 3, (2, 4), deadline_ns=1)
    with pytest.raises(DoesNotFit, match=r"large takes .* at least; give more --deadline"):
        planned(model(), [board("large", 60_000)], terms=terms)


def test_equal_times_are_nearly_equal() -> None:
    """Boards of unequal speed end within the deadline, and the quicker one learns from more items meanwhile."""
    terms = Terms("time", 3, (2, 4, 8, 16))
    fast = replace(SLOW, flops_per_s=4 * SLOW.flops_per_s, bytes_per_s=4 * SLOW.bytes_per_s)
    plan = planned(model(), [board("slow", 60_000), board("fast", 60_000, fast)], None, terms)
    slow, quick = plan.boards
    assert plan.deadline_ns is not None
    assert max(slow.round_ns, quick.round_ns) == plan.deadline_ns
    assert quick.batch == 4 * slow.batch
    assert quick.round_ns > 0.8 * slow.round_ns


def test_times_of_nobodys_boards_are_not_compared() -> None:
    """A board without rates cannot have a deadline, which is said before anything is planned."""
    with pytest.raises(UsageError, match=r"expected rates of large for equal round times"):
        planned(model(), [board("large", 60_000, UNKNOWN)], terms=Terms("time", 3, (2,)))


def test_more_fronts_than_a_tail_can_serve_ask_for_more_tails() -> None:
    """Where the tail is busy longer than a round takes, the plan says how many of it keep the times."""
    lazy = replace(TAIL, speed=replace(QUICK, flops_per_s=10**7), quants=("int8",))
    members = [board(f"b{k}", 1000, trainers=("split",)) for k in range(6)]
    plan = planned(model(), members, tail=lazy)
    assert plan.tail is not None
    longest = max(made.round_ns for made in plan.boards)
    assert plan.tail.agents == -(-plan.tail.busy_ns // longest) > 1


def test_the_largest_micro_batch_of_nearly_equals_is_taken() -> None:
    """Where memory is no matter the largest one is planned; where it costs most of the importance a smaller one."""
    assert planned(model(), [board("large", 60_000)]).micro_batch == 2
    assert planned(model(kept=400, end=4), [board("small", 1500)]).micro_batch == 1


def test_a_plan_stays_until_importance_moves() -> None:
    """The same fleet and nearly the same importance keep a plan; anything else says why it is made again."""
    work, members = model(), [board("small", 1000), board("large", 60_000)]
    plan = planned(work, members)

    def why(now: Importance, **changed: object) -> str:
        given_now = {"captured": HOW, "members": members, "tail": TAIL, "terms": TERMS, **changed}
        return why_again(plan, importance=now, **given_now)  # type: ignore[arg-type]

    same = Importance(shares(work.slots))
    near = Importance(shares(work.slots, {"slot0": 1.1, "slot1": 1.0, "slot2": 1.0, "slot3": 1.0}))
    away = Importance(shares(work.slots, {"slot0": 9.0, "slot1": 1.0, "slot2": 1.0, "slot3": 1.0}))
    assert why(same) == why(near) == ""
    assert why(away) == "50.0 % of the importance moved"
    assert "looked at" in why(same, captured=replace(HOW, sequence=32))
    assert "boards are others" in why(same, members=members[:1])
    assert "tail is another" in why(same, tail=None)
    assert "something else" in why(same, terms=replace(TERMS, steps=4))
