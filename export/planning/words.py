"""A plan of a fleet for people: a row per board, the tail, and why; as text and as a page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from console import report
from console.table import MIB, mib, percent, shown, size, table
from devices.split.fleet_plan import BoardPlan, FleetPlan
from devices.split.reasons import seconds

WHY = 72  # letters of a reason in one line
HEADER = (
    "board", "trainer", "holds", "cuts", "format", "adapters", "ranks", "batch", "needs", "of", "a round", "up", "down",
    "covers",
)  # fmt: skip


def rows_of(plan: FleetPlan) -> list[tuple[str, ...]]:
    """A row per board."""
    return [_row(plan, board) for board in plan.boards]


def _row(plan: FleetPlan, board: BoardPlan) -> tuple[str, ...]:
    lowest, highest = min(board.ranks.values()), max(board.ranks.values())
    return (
        shown(board.device),
        board.trainer,
        f"{board.border} of {len(plan.units)} units",
        str(len(board.cuts)),
        board.quant,
        str(len(board.ranks)),
        str(lowest) if lowest == highest else f"{lowest} to {highest}",
        str(board.batch),
        mib(board.memory_bytes),
        mib(board.budget_bytes),
        seconds(board.round_ns),
        size(board.up_bytes),
        size(board.down_bytes),
        percent(board.covered),
    )


def lead(plan: FleetPlan) -> str:
    """What holds for all boards, in a sentence."""
    words = f"micro-batch {plan.micro_batch}, {plan.steps} steps a round, importance {plan.importance_from}"
    return words if plan.deadline_ns is None else f"{words}, rounds of {seconds(plan.deadline_ns)}"


def tail_words(plan: FleetPlan) -> str:
    """Who has what lies behind the fronts."""
    tail = plan.tail
    if tail is None:
        return "no tail: every board holds the whole model"
    ends = ", ".join(dict.fromkeys(shown(board.before) for board in plan.boards if board.in_front))
    rank = max(tail.ranks.values(), default=0)
    agents = "" if tail.agents == 1 else f"; {tail.agents} such agents keep these times"
    return (
        f"tail on {shown(tail.device)}: from {ends} on, {tail.quant}, rank {rank}, needs "
        f"{mib(tail.memory_bytes)} of {mib(tail.budget_bytes)}, busy for {seconds(tail.busy_ns)} a round{agents}"
    )


def words(plan: FleetPlan) -> str:
    """All of it as text."""
    parts = [lead(plan), table(HEADER, rows_of(plan)), tail_words(plan)]
    parts += [table((shown(board.device), "found", "why"), list(_wrapped(board))) for board in plan.boards]
    return "\n\n".join(parts)


def page(plan: FleetPlan) -> str:
    """All of it as one HTML page."""
    stacks = [(board.device, board.memory_bytes / MIB, board.budget_bytes / MIB) for board in plan.boards]
    parts = [
        report.section("Boards", report.table(HEADER, rows_of(plan)), report.text(tail_words(plan))),
        report.section("Memory, of each budget", report.bars(stacks, "MiB")),
        *(report.section(b.device, report.table(("choice", "found", "why"), _reasons(b))) for b in plan.boards),
    ]
    return report.page(f"Plan of {plan.model.source}", lead(plan), parts)


def _wrapped(board: BoardPlan) -> Iterator[tuple[str, str, str]]:
    """The reasons, long ones over several lines."""
    for choice, found, why in _reasons(board):
        first, *rest = textwrap.wrap(why, WHY) or [""]
        yield choice, found, first
        yield from (("", "", line) for line in rest)


def _reasons(board: BoardPlan) -> Sequence[tuple[str, str, str]]:
    return [(reason.choice, shown(reason.found), shown(reason.why)) for reason in board.reasons]
