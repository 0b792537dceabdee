"""Whether a plan stays: it is made again only where importance moved by more than noise does, or the fleet is another.

HSplitLoRA (Lin et al., arXiv 2505.02795) configures anew when importance has changed by more than a threshold; each
new plan is an export and a deployment of every board.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from console.table import percent
from devices.split.fleet_plan import Captured, FleetPlan
from devices.split.work import Importance, Member, Terms
from wire.importance.moved import THRESHOLD, moved


def why_again(
    before: FleetPlan,
    captured: Captured,
    members: Sequence[Member],
    tail: Member | None,
    terms: Terms,
    importance: Importance,
    threshold: float = THRESHOLD,
) -> str:
    """Why a plan has to be made again; empty where it stays."""
    if before.model != captured:
        return "the model is looked at in another way"
    then = {board.device: (board.profile, board.budget_bytes) for board in before.boards}
    if then != {m.board.name: (m.board.profile, m.board.budget_bytes) for m in members}:
        return "the boards are others, or have other budgets"
    holder = None if before.tail is None else (before.tail.device, before.tail.profile, before.tail.budget_bytes)
    if holder is not None and (
        tail is None or holder != (tail.board.name, tail.board.profile, tail.board.budget_bytes)
    ):
        return "the tail is another"
    if (before.objective, before.steps) != (terms.objective, terms.steps):
        return "rounds ask for something else"
    share = far(before.importance, importance.of)
    return f"{percent(share)} of the importance moved" if share > threshold else ""


def far(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """The share of importance that moved; all of it where the slots are others.

    >>> far({"a": 1, "b": 1}, {"a": 3, "b": 1}), far({"a": 1.0}, {"b": 1.0})
    (0.25, 1.0)
    """
    return moved(before, now) if before.keys() == now.keys() else 1.0
