"""Splits, ranks, batches and deadlines against every plan that there is."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from devices.memory import MIB
from devices.plan import Board
from devices.split.fedpipe import Chooser, least_deadline
from devices.split.hsplitlora import split_and_ranks
from devices.split.search import EXACT, Search
from devices.split.work import WHOLE, Importance, Member, ModelWork, SlotWork, Terms
from tests.devices.split.fleets import FIXED, SLOW, TAIL, Plan, boards, every_plan, models, shares_of, unit

weights = st.lists(st.integers(0, 9), min_size=5, max_size=5)
ONE = Terms(steps=3, batches=(4,))
MANY = Terms("time", steps=3, batches=(2, 4, 8))


def search_of(model: ModelWork, members: list[Member], terms: Terms, shares: dict[str, int]) -> Search:
    """The planner over some boards and a tail that is quick."""
    return Search(model, members, TAIL, terms, Importance(shares))


@settings(max_examples=100, deadline=None)
@given(models(), boards, weights, st.sampled_from([1, 2]))
def test_no_split_covers_more(model: ModelWork, member: Member, drawn: list[int], micro: int) -> None:
    """Of all that fits, the plan covers most, then in the format named first, then with fewest bytes across."""
    shares = shares_of(model, drawn)
    search = search_of(model, [member], ONE, shares)
    offers = list(search.offers_by(member, micro, EXACT))
    found = split_and_ranks(offers, search.frontier(member), member.quants)

    def key(plan: Plan) -> tuple[int, int, int]:
        return plan.covered, -member.quants.index(plan.quant), -plan.crossing

    best = max((key(p) for p in every_plan(model, member, shares, ONE, micro) if p.covered), default=None)
    assert (best is None) == (found is None)
    if found is not None and best is not None:
        offer = found.offer
        assert (found.covered, -member.quants.index(offer.holding.quant), -(offer.up_bytes + offer.down_bytes)) == best


@settings(max_examples=100, deadline=None)
@given(models(), boards, weights, st.floats(0, 1.3))
def test_no_round_in_time_is_worth_more(model: ModelWork, member: Member, drawn: list[int], share: float) -> None:
    """Within a deadline no other part, format, ranks and batch are worth more; and a plan says the time it takes."""
    shares = shares_of(model, drawn)
    search = search_of(model, [member], MANY, shares)
    offers = list(search.offers_by(member, 2, EXACT))
    plans = [plan for plan in every_plan(model, member, shares, MANY, 2) if plan.covered]
    assert bool(plans) == bool(offers)
    if not plans:
        return
    times = sorted(plan.round_ns for plan in plans)
    deadline = int(times[0] + share * (times[-1] - times[0]))
    found = Chooser(offers, search.frontier(member), member.quants).within(deadline)
    assert found is not None
    assert found.offer.batch * found.covered == max(p.batch * p.covered for p in plans if p.round_ns <= deadline)
    assert found.round_ns <= deadline
    same = [p.round_ns for p in plans if (p.border, p.batch) == (found.offer.holding.border, found.offer.batch)]
    assert found.round_ns in same


@settings(max_examples=100, deadline=None)
@given(models(most=3), st.lists(boards, min_size=1, max_size=3), weights, st.floats(0, 1))
def test_no_deadline_is_earlier(model: ModelWork, members: list[Member], drawn: list[int], share: float) -> None:
    """A nanosecond earlier, a board could not cover all that it has room for, or all together not do the work."""
    shares = shares_of(model, drawn)
    members = [replace(m, board=replace(m.board, name=f"b{k}")) for k, m in enumerate(members)]
    search = search_of(model, members, MANY, shares)
    offers = [list(search.offers_by(m, 2, EXACT)) for m in members]
    plans = [[p for p in every_plan(model, m, shares, MANY, 2) if p.covered] for m in members]
    if not all(plans):
        return
    work = int(share * sum(max(p.batch * p.covered for p in own) for own in plans))

    def enough(deadline: int) -> bool:
        done = [[p for p in own if p.round_ns <= deadline] for own in plans]
        full = all(
            max((p.covered for p in own), default=0) == max(p.covered for p in every)
            for own, every in zip(done, plans, strict=True)
        )
        return full and sum(max((p.batch * p.covered for p in own), default=0) for own in done) >= work

    choosers = [Chooser(own, search.frontier(m), m.quants) for m, own in zip(members, offers, strict=True)]
    found = least_deadline(choosers, work)
    assert found is not None
    assert enough(found)
    assert not enough(found - 1)


def test_more_work_than_boards_can_do_has_no_deadline() -> None:
    """No time lets a fleet do more than its largest batches; that is an answer, not a search without end."""
    units = [unit("u0", 10, 10, 1, 4000), unit("u1", 10, 10, 1)]
    model = ModelWork({(2, "train"): units}, (SlotWork("s0", 0, 4000),))
    member = Member(Board("board", FIXED + 64 * MIB), SLOW, ("int8",), ("backprop",))
    search = search_of(model, [member], MANY, {"s0": WHOLE})
    chooser = Chooser(search.offers(member, 2), search.frontier(member), member.quants)
    assert least_deadline([chooser], 8 * WHOLE) is not None
    assert least_deadline([chooser], 8 * WHOLE + 1) is None
