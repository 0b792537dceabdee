"""The plan of a fleet: for every board what it holds, how it learns, of which ranks, and in which time.

One micro-batch for all, since fronts and tail exchange micro-batches. Of the plans at each that there are numbers of,
the one that covers most of the importance is taken, by "time" most of it per second; and the largest micro-batch of
those that are nearly as good.
"""

from __future__ import annotations

from collections.abc import Sequence

from console.errors import DoesNotFit, UsageError
from devices.enough import KnownBoard
from devices.split import shortfall
from devices.split.fleet_plan import Captured, FleetPlan
from devices.split.search import Search
from devices.split.work import Importance, Member, ModelWork, Terms
from devices.stages import NEARLY
from devices.times import UNKNOWN


def plan_fleet(
    model: ModelWork,
    members: Sequence[Member],
    tail: Member | None,
    terms: Terms,
    importance: Importance,
    captured: Captured,
    known: Sequence[KnownBoard] | None = None,
) -> FleetPlan:
    """Decide who holds what, of which ranks.

    Args:
        model: in numbers, at every micro-batch that is allowed.
        members: the boards.
        tail: who may hold what lies behind a front; None where there is nobody.
        terms: of a round.
        importance: of the slots.
        captured: how the model was looked at, for the file.
        known: boards that a refusal may name; None where nobody has looked.

    Raises:
        DoesNotFit: some boards can hold no part, the tail not the rest, or no plan keeps the deadline; the words
            name what is missing and the cheapest addition.
        UsageError: times are to be compared, and nobody knows how fast a board is.
    """
    _require_speeds(members, tail, terms)
    search = Search(model, members, tail, terms, importance)
    rounds = [found for micro in model.micro_batches if (found := search.round(micro)) is not None]
    if not rounds:
        raise DoesNotFit(shortfall.refusal(search, known))
    most = max(found.worth(terms.objective) for found in rounds)
    best = next(found for found in rounds if found.worth(terms.objective) >= most * (1 - 1 / NEARLY))
    return search.told(best, captured)


def _require_speeds(members: Sequence[Member], tail: Member | None, terms: Terms) -> None:
    everyone = [*members, *([] if tail is None else [tail])]
    slow = [m.board.name for m in everyone if m.speed == UNKNOWN]
    if terms.objective == "time" and slow:
        raise UsageError(
            f"expected rates of {', '.join(slow)} for equal round times, found none; take boards that have a profile, "
            "or give flops_per_s, bytes_per_s, link_bytes_per_s in the fleet file"
        )
