"""What a round counts, one entry per update, in an order that arrival cannot change; contents are read when asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from console.errors import HubError
from hub.making.model import Model
from hub.making.versions import read_made, read_start
from hub.rounds.state import Round
from hub.serving.asked import Asked, asked_of
from hub.serving.check import adapter_of, statistics_of
from hub.store.ledger import Row
from hub.store.registry import Home
from wire.adapter import Adapter, read_slots
from wire.kinds.head import Statistics
from wire.kinds.lora import Lora
from wire.messages import Begin, Sender


@dataclass(frozen=True)
class Contribution:
    """One board's update: what it declares, and how to come to its content, which is forgotten again.

    Attributes:
        device: whose.
        samples: rows that it learned from.
        read: the whole content, checked again.
        metrics: what the board measured.
        base: digest of the version that it started from.
        staleness: the versions made since then.
        slots: the factors of some slots without the rest, after `read` found all of it right.
    """

    device: str
    samples: int
    read: Callable[[], Adapter]
    metrics: dict[str, Any] = field(default_factory=dict)
    base: str = ""
    staleness: int = 0
    slots: Callable[[Collection[str]], dict[str, Lora]] = field(default=lambda names: {})


def trained(home: Home, model: Model, rank: int, state: Round) -> list[Contribution]:
    """The updates that the latest lap of a round of training counts."""
    asked = asked_of(state, rank, starts(home))
    rows = home.ledger.updates(state.number, "adapter", state.latest)
    return [_trained(home, model, asked, row) for row in rows]


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


def _trained(home: Home, model: Model, asked: Asked, row: Row) -> Contribution:
    def read() -> Adapter:
        return adapter_of(home.blobs.get(row["digest"]), _begin(row), model, asked)

    slots = partial(_slots, home.blobs.path(row["digest"]), read)
    return Contribution(row["device"], row["samples"], read, row["metrics"], row["base"], row["staleness"], slots)


def _slots(path: Path, read: Callable[[], Adapter], names: Collection[str]) -> dict[str, Lora]:
    """The factors of some slots; of a file that holds none (pairs, a thin update), those that are made of it."""
    found = read_slots(path, names)
    return found or {name: factors for name, factors in read().lora.items() if name in names}


def took_part(rows: list[Row], shares: Sequence[float] | None = None) -> tuple[Row, ...]:
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
