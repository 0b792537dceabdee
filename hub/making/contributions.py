"""What a round counts, one entry per board, in an order that arrival cannot change; contents are read when asked.

Both halves of a split update are one entry: they are of one board, and of the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from console.errors import HubError
from hub.making.model import Model
from hub.making.versions import read_made, read_start
from hub.rounds.halves import half_of
from hub.rounds.refusal import seat_of
from hub.rounds.seating import held_by
from hub.rounds.state import Round
from hub.serving.asked import asked_of
from hub.serving.check import adapter_of, statistics_of
from hub.store.ledger import Row
from hub.store.registry import Home
from wire.adapter import Adapter, read_slots
from wire.kinds.head import Statistics
from wire.kinds.lora import Lora
from wire.messages import Begin, Sender

KINDS = ("adapter", "tail")  # of what is trained, in the order of the ledger


@dataclass(frozen=True)
class Contribution:
    """What one board learned: what it declares, and how to come to its content, which is forgotten again.

    Attributes:
        device: whose.
        samples: rows that it learned from.
        read: the whole content, checked again.
        metrics: what the board measured.
        base: digest of the version that it started from.
        staleness: the versions made since then.
        slots: the factors of some slots without the rest, after `read` found all of it right.
        holds: the slots that it has; None: all of the model's.
    """

    device: str
    samples: int
    read: Callable[[], Adapter]
    metrics: dict[str, Any] = field(default_factory=dict)
    base: str = ""
    staleness: int = 0
    slots: Callable[[Collection[str]], dict[str, Lora]] = field(default=lambda names: {})
    holds: frozenset[str] | None = None

    def has(self, slot: str) -> bool:
        """Whether it learned at a slot."""
        return self.holds is None or slot in self.holds


def trained(home: Home, model: Model, rank: int, state: Round) -> list[Contribution]:
    """The updates that the latest lap of a round of training counts."""
    boards: dict[str, list[Row]] = {}
    for row in home.ledger.updates(state.number, None, state.latest):
        if row["kind"] in KINDS:
            boards.setdefault(row["device"], []).append(row)
    return [_board(home, model, rank, state, rows) for rows in boards.values()]


def starts(home: Home) -> Callable[[str, int], Adapter]:
    """From the digest of a version and a rank, what a board of that rank began with."""

    def start(digest: str, rank: int) -> Adapter:
        row = home.ledger.version(digest)
        if row is None:
            raise HubError(f"expected version {digest[:12]} in the ledger, found none; restore it from a backup")
        return read_start(digest, read_made(row).version, home.blobs, rank)

    return start


def sums(home: Home, model: Model, state: Round, without: str = "") -> Iterator[dict[int, Statistics]]:
    """The statistics of a round, by rank, board after board; those of one device may be left out."""
    for row in home.ledger.updates(state.number, "statistics"):
        if row["device"] == without:
            continue
        yield statistics_of(home.blobs.get(row["digest"]), _begin(row), model, state.statistics_ranks)


def _board(home: Home, model: Model, rank: int, state: Round, rows: list[Row]) -> Contribution:
    """What a board brought: one update, or the halves of one that came, the front's first."""
    halves = [_trained(home, model, rank, state, row) for row in rows]
    if len(halves) == 1:
        return halves[0]
    front, tail = halves

    def read() -> Adapter:
        one, other = front.read(), tail.read()
        both = {**other.lora, **one.lora}, {**other.bias, **one.bias}, {**other.heads, **one.heads}
        return replace(one, lora=both[0], bias=both[1], heads=both[2], metadata={**other.metadata, **one.metadata})

    holds = None if front.holds is None or tail.holds is None else front.holds | tail.holds
    return replace(front, read=read, slots=lambda names: tail.slots(names) | front.slots(names), holds=holds)


def _trained(home: Home, model: Model, rank: int, state: Round, row: Row) -> Contribution:
    holds = held_by(home, model, state, row["device"], row["kind"])
    half = half_of(seat_of(state.seats, row["device"]), row["kind"])
    asked = asked_of(state, rank, starts(home), holds, half)

    def read() -> Adapter:
        return adapter_of(home.blobs.get(row["digest"]), _begin(row), model, asked)

    slots = partial(_slots, home.blobs.path(row["digest"]), read, holds)
    return Contribution(
        row["device"], row["samples"], read, row["metrics"], row["base"], row["staleness"], slots, holds
    )


def _slots(
    path: Path, read: Callable[[], Adapter], holds: frozenset[str] | None, names: Collection[str]
) -> dict[str, Lora]:
    """The factors of some slots; of a file that holds none (pairs, a thin update), those that are made of it."""
    own = names if holds is None else holds.intersection(names)
    found = read_slots(path, own) if own else {}
    return found or ({name: factors for name, factors in read().lora.items() if name in own} if own else {})


def parts_of(found: Sequence[Contribution], shares: Sequence[float] | None = None) -> tuple[Row, ...]:
    """The same as `took_part`, of boards with what each learned."""
    return took_part([{"device": one.device, "samples": one.samples} for one in found], shares)


def took_part(rows: Sequence[Row], shares: Sequence[float] | None = None) -> tuple[Row, ...]:
    """Who a version was made of, for the ledger: device, samples, and the share of it where that is known.

    Args:
        rows: of the updates that count, in the ledger's order.
        shares: one each; None where nobody may know them.
    """
    known = [None] * len(rows) if shares is None else [float(share) for share in shares]
    return tuple(
        {"device": row["device"], "samples": row["samples"], "share": share}
        for row, share in zip(rows, known, strict=True)
    )


def _begin(row: Row) -> Begin:
    """The beginning of an update, as the ledger remembers it."""
    sender = Sender(row["device"], "", 0)
    return Begin(
        sender, row["digest"], row["kind"], row["job"], row["round"], row["base"], row["bytes"], row["samples"]
    )
