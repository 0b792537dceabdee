"""What a round needs to know of boards that hold the front of a model alone (docs/split.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from console.errors import HubError, UsageError, join
from hub.rounds.halves import SUMS, WORDS
from hub.rounds.halves import TAIL as BEHIND
from hub.rounds.jobs import SPLIT
from hub.rounds.seating import FRONT, seats_for, tails_of
from hub.rounds.selection import Board
from hub.rounds.state import Seat
from hub.serving.desk import Desk
from hub.store.ledger import Row
from wire.messages import JobKind

LEARNS = ("train", "statistics")  # rounds in which boards with fronts take part
HINTS = {
    "train": "train by backprop, in a synchronous round, without --prune-gamma, and not under masks",
    "statistics": "gather statistics without --secure",
}


def half_for(kind: str, settings: Row, request: Row, secure: bool) -> str:
    """What boards can do that take part with a tail; empty where a round has no place for them."""
    whole = settings.get("trainer", "backprop") != "backprop" or request.get("mode") == "buffered" or secure
    whole = whole or settings.get("prune_gamma", 1.0) < 1  # a tail is too short by what both halves hold
    return FRONT if kind in LEARNS and not whole else ""


def left_out(kind: str, half: str, boards: Iterable[Board]) -> str:
    """A word on boards with fronts where a round has no place for them; empty where it has, or there are none."""
    fronts = [board.name for board in boards if FRONT in board.jobs]
    if half or kind not in HINTS or not fronts:
        return ""
    return f"; {', '.join(fronts[:5])} hold the front of a model alone and can take part if you {HINTS[kind]}"


def seats_of(
    desk: Desk, kind: JobKind, devices: list[str], settings: Row, request: Row, half: str
) -> tuple[tuple[Seat, ...], Row]:
    """The seats of a round of training or of statistics, and the settings of its jobs.

    Args:
        desk: of the model.
        kind: of the round.
        devices: that are asked.
        settings: of their jobs.
        request: `split` of it says coding, labels and mode.
        half: what `half_for` said.

    Raises:
        HubError: there is nobody for the tails.
        UsageError: something is asked of halves that does not exist, or where there are none.
    """
    told = _told(request.get(SPLIT) or {}, WORDS if kind == "train" else {"coding": WORDS["coding"]})
    tails = tails_of(desk.home, desk.model.id, desk.conductor.open.values())
    seats = seats_for(desk.home, desk.model, devices, tails)
    fronts = [seat.device for seat in seats if seat.front]
    if not fronts:
        if request.get(SPLIT):
            raise UsageError(
                f"expected boards with the front of a model for {' and '.join(sorted(told))}, found none of them"
            )
        return seats, settings
    if not half:
        raise UsageError(
            f"expected boards that hold the whole model in such a round, found the front of it on {', '.join(fronts)}; "
            f"{HINTS[kind]}"
        )
    if all(seat.state == "failed" for seat in seats):
        raise HubError(f"expected tails for {', '.join(fronts)}, found none: {seats[0].reason}")
    twins = {name + BEHIND for name in fronts} & set(devices)
    if twins:
        raise UsageError(
            f"expected no device called {', '.join(sorted(twins))} beside those fronts; enroll it as another"
        )
    usual = {name: words[0] for name, words in WORDS.items()} if kind == "train" else SUMS
    if not desk.model.features and (told.get("labels") == "stay" or told.get("mode") == "local"):
        raise UsageError(
            f"expected labels to go along, step by step, where {desk.model.id} has no head that boards could have, "
            f"found {' and '.join(f'{name} {value}' for name, value in sorted(told.items()))}"
        )
    return seats, {**settings, SPLIT: usual | told}


def _told(given: dict[str, Any], words: dict[str, tuple[str, ...]]) -> dict[str, str]:
    said = {name: value for name, value in given.items() if value is not None}
    wrong = [f"{name} {value}" for name, value in said.items() if value not in words.get(name, ())]
    if wrong:
        known = "; ".join(f"{name}: {', '.join(some)}" for name, some in words.items())
        raise UsageError(f"expected {known}, found {join(wrong)}")
    return said
