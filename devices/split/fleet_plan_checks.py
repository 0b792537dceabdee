"""What a plan of a fleet says that cannot be true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from console.table import shown
from devices.ranks import MOST_RANK

if TYPE_CHECKING:  # the reader asks this module
    from devices.split.fleet_plan import BoardPlan, FleetPlan

FORWARD = ("forward", "spry")  # trainers that need no backward graph


def contradictions(plan: FleetPlan) -> list[str]:
    """Everything in a plan that contradicts something else in it, in words."""
    return [*_fleet(plan), *_tail(plan), *(problem for board in plan.boards for problem in _board(plan, board))]


def _fleet(plan: FleetPlan) -> Iterator[str]:
    if not plan.boards:
        yield "boards: expected one at least, found none"
    if not plan.units:
        yield "units: expected one at least, found none"
    names = [board.device for board in plan.boards] + ([plan.tail.device] if plan.tail else [])
    yield from (f"{name}: found {n} times" for name, n in Counter(names).items() if n > 1)
    fronts = [board.device for board in plan.boards if board.in_front]
    if fronts and plan.tail is None:
        yield f"tail: expected one for {', '.join(fronts)}, found none"
    if plan.tail is not None and not fronts:
        yield "tail: expected none, for every board holds the whole model"
    yield from (f"importance of {shown(n)}: expected 0 to 1, found {v}" for n, v in plan.importance.items() if _out(v))


def _out(share: float) -> bool:
    return not 0 <= share <= 1


def _tail(plan: FleetPlan) -> Iterator[str]:
    if plan.tail is None:
        return
    borders = tuple(sorted({board.border for board in plan.boards if board.in_front}))
    if plan.tail.borders != borders:
        yield f"tail.borders: expected those of the fronts, {_listed(borders)}, found {_listed(plan.tail.borders)}"
    if not plan.tail.ranks:
        yield "tail.ranks: expected one slot at least, found none: it would have nothing to learn"
    yield from _ranks("tail", plan.tail.ranks)


def _board(plan: FleetPlan, board: BoardPlan) -> Iterator[str]:
    at, count = f"boards.{board.device}", len(plan.units)
    whole = board.border == count
    if board.border > count:
        yield f"{at}.border: expected at most {count}, the number of units, found {board.border}"
    if board.in_front and whole:
        yield f"{at}: trainer {board.trainer} is for a front, but its border is behind the last unit"
    if not board.in_front and board.border < count:
        yield f"{at}: trainer {board.trainer} is for the whole model, but its border is at unit {board.border}"
    expected = plan.units[board.border] if board.border < count else ""
    if board.before != expected and board.border <= count:
        yield f"{at}.before: expected {shown(expected)!r}, the unit at the border, found {shown(board.before)!r}"
    if list(board.cuts) != sorted(set(board.cuts)) or any(not 0 < cut < board.border for cut in board.cuts):
        yield f"{at}.cuts: expected ascending numbers between 0 and {board.border}, found {_listed(board.cuts)}"
    if board.in_front != bool(board.coding) or board.in_front != bool(board.labels):
        yield f"{at}: coding and labels belong to a front and to nothing else"
    if board.mode == "train-forward" and board.trainer not in FORWARD:
        yield f"{at}: trainer {board.trainer} needs mode train, found train-forward"
    if board.batch % plan.micro_batch:
        yield f"{at}.batch: expected a multiple of the micro-batch {plan.micro_batch}, found {board.batch}"
    if not board.ranks:
        yield f"{at}.ranks: expected one slot at least, found none: the board would learn nothing"
    yield from _ranks(at, board.ranks)


def _ranks(at: str, ranks: dict[str, int]) -> Iterator[str]:
    wrong = [(slot, rank) for slot, rank in ranks.items() if not 1 <= rank <= MOST_RANK]
    yield from (f"{at}.ranks.{shown(slot)}: expected 1 to {MOST_RANK}, found {rank}" for slot, rank in wrong)


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers[:20])) + (", ..." if len(numbers) > 20 else "") if numbers else "none"
