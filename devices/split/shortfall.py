"""Why a fleet cannot hold a model, in words: what is missing, and the cheapest addition that would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from console.errors import join
from console.table import mib, shown
from devices.covers import UNREACHED
from devices.enough import KnownBoard, smallest_budget
from devices.memory import adapter_bytes
from devices.plan import adapters_of
from devices.split.fleet_plan import FRONT
from devices.split.holdings import Memory, borders_of, slots_before
from devices.split.reasons import seconds
from devices.split.tails import TailMemory
from devices.split.work import Member

if TYPE_CHECKING:
    from devices.split.search import Search


@dataclass(frozen=True)
class _Part:
    """The least that a board would have to have for a front or for the whole; `before` names the unit at the border."""

    budget_bytes: int
    border: int
    before: str


def refusal(search: Search, known: Sequence[KnownBoard] | None) -> str:
    """The words, for the smallest micro-batch."""
    micro = search.model.micro_batches[-1]
    short = [member for member in search.members if not search.offers(member, micro)]
    if short:
        return _boards(search, short, micro, known)
    late = _late(search)
    return late or _tail(search, micro, known)


def _boards(search: Search, short: Sequence[Member], micro: int, known: Sequence[KnownBoard] | None) -> str:
    told, helped = [], list[tuple[Member, _Part]]()
    for member in short:
        whole, front = _least(search, member, micro, fronts=False), _least(search, member, micro, fronts=True)
        budget = member.board.budget_bytes
        if search.tail is None and front is not None and front.budget_bytes <= budget:
            helped.append((member, front))
        parts = [f"{mib(whole.budget_bytes)} for the whole model"] if whole else []
        parts += [f"{mib(front.budget_bytes)} for its smallest front"] if front else []
        needs = " or ".join(parts) or "a trainer that can learn this model"
        told.append(f"{member.board.name} has {mib(budget)} and needs {needs}{_instead(whole, front, search, known)}")
    names = ", ".join(member.board.name for member in short)
    ways = [_tail_addition(search, helped, micro, known)] if helped else []
    ways += ["a smaller --sequence", "smaller weights by --quant"]
    return (
        f"expected every board of the fleet to learn a part of this model, but {names} cannot at micro-batch {micro}: "
        f"{join(told)}; the cheapest addition: {ways[0]}; or {', '.join(ways[1:])}"
        if helped
        else f"expected every board of the fleet to learn a part of this model, but {names} cannot at micro-batch "
        f"{micro}: {join(told)}; try one of the boards that would do in its place, {' or '.join(ways)}"
    )


def _instead(whole: _Part | None, front: _Part | None, search: Search, known: Sequence[KnownBoard] | None) -> str:
    """The smallest known board that would do, as a clause to append."""
    least = front if search.tail is not None and front is not None else whole
    if known is None or least is None:
        return ""
    board = _smallest(known, least.budget_bytes)
    return f" ({board} would do in its place)" if board else " (no known board would do in its place)"


def _tail_addition(
    search: Search, helped: Sequence[tuple[Member, _Part]], micro: int, known: Sequence[KnownBoard] | None
) -> str:
    """A tail for the boards that have room for a front."""
    borders = sorted({part.border for _, part in helped})
    quant = helped[0][0].quants[0]
    budget = _tail_budget(search, helped[0][0], quant, borders, len(helped), micro)
    board = None if known is None or budget is None else _smallest(known, budget)
    size = "" if budget is None else f" with a budget of {mib(budget)}"
    would = f" ({board} would do)" if board else ""
    parts = join([f"{member.board.name} the units before {shown(part.before)}" for member, part in helped])
    return f"--tail NAME, an agent{size}{would} that holds the rest, where then {parts} fit"


def _tail(search: Search, micro: int, known: Sequence[KnownBoard] | None) -> str:
    """Why the tail does not do."""
    tail = search.tail
    if tail is None:
        raise AssertionError("every board fits, nothing is late, and there is no tail")
    memory = TailMemory(search.model, tail, tail.quants[-1], micro, UNREACHED)
    places = borders_of(memory.units, search.model.slots, memory.memory.places)
    budget = _tail_budget(search, tail, tail.quants[-1], places[:1], len(search.members), micro)
    board = None if known is None or budget is None else _smallest(known, budget)
    would = f" ({board} would do)" if board else ""
    need = "more" if budget is None else mib(budget)
    count = len(search.members)
    copies = "a board" if count == 1 else f"{count} boards"
    return (
        f"expected {tail.board.name} to hold what lies behind the fronts, with adapters for {copies}, "
        f"within {mib(tail.board.budget_bytes)}, but that needs about {need}{would}; give it more, or a "
        "smaller --rank"
    )


def _late(search: Search) -> str:
    """Which boards have no round that is over by the deadline; empty if all have, at some micro-batch."""
    deadline = search.terms.deadline_ns
    if deadline is None or search.terms.objective != "time":
        return ""
    told = []
    for member in search.members:
        rounds = [
            offer.round_ns(int(search.frontier(member).of(offer.holding.count).values[1]))
            for micro in search.model.micro_batches
            for offer in search.offers(member, micro)
        ]
        if rounds and min(rounds) > deadline:
            told.append(f"{member.board.name} takes {seconds(min(rounds))} at least")
    if not told:
        return ""
    return (
        f"expected rounds of {search.terms.steps} steps within {seconds(deadline)}, but {join(told)}; give more "
        "--deadline, fewer --steps, or leave --deadline out for the least one"
    )


def _least(search: Search, member: Member, micro: int, *, fronts: bool) -> _Part | None:
    """The least budget for the whole model, or for some front; None where no trainer of the board could learn it."""
    found: list[_Part] = []
    for trainer in member.trainers:
        if (trainer in FRONT) != fronts or not search.able(member, trainer, micro):
            continue
        for quant in member.quants:
            memory = search.memory(member, quant, trainer, micro, UNREACHED)
            slots = search.model.slots
            borders = borders_of(memory.units, slots, memory.places) if fronts else [len(memory.units)]
            for border in borders[:1] if fronts else borders:
                budget = _least_of(search, memory, member, border)
                before = memory.units[border].name if border < len(memory.units) else ""
                if budget is not None:
                    found.append(_Part(budget, border, before))
    return min(found, key=lambda part: part.budget_bytes, default=None)


def _least_of(search: Search, memory: Memory, member: Member, border: int) -> int | None:
    values = search.frontier(member).of(slots_before(search.model.slots, border)).values
    if len(values) < 2:
        return None
    beside = adapter_bytes(int(values[1]), 1, memory.board.mode) + adapters_of(memory.units[:border], memory.board)
    items = min(search.batches(memory.micro_batch), default=memory.micro_batch)
    most = memory.alone(border, items) + beside
    return smallest_budget(lambda budget: memory.cuts(border, budget - beside, items) is not None, most)


def _tail_budget(
    search: Search, tail: Member, quant: str, borders: Sequence[int], boards: int, micro: int
) -> int | None:
    if not borders:
        return None
    memory = TailMemory(search.model, tail, quant, micro, UNREACHED)
    items = min(search.batches(micro), default=micro)
    most = memory.peak(borders, borders, boards, items)
    return smallest_budget(lambda budget: memory.cuts(borders, boards, items, budget) is not None, most)


def _smallest(known: Sequence[KnownBoard], budget_bytes: int) -> str:
    """The known board of least memory that has so much; empty if none has."""
    able = [board for board in known if board.budget_bytes >= budget_bytes]
    return min(able, key=lambda board: (board.budget_bytes, board.name)).name if able else ""
