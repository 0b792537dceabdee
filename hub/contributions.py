"""What a round counts, one entry per update, in an order that arrival cannot change; contents are read when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hub.check import Asked, adapter_of, asked_of, statistics_of
from hub.ledger import Row
from hub.model import Model
from hub.registry import Home
from hub.round import Round
from wire.adapter import Adapter
from wire.kinds.head import Statistics
from wire.messages import Begin, Sender


@dataclass(frozen=True)
class Contribution:
    """One board's update: what it declares, and `read` for its content (checked again, then forgotten)."""

    device: str
    samples: int
    read: Callable[[], Adapter]
    metrics: dict[str, Any] = field(default_factory=dict)


def trained(home: Home, model: Model, rank: int, state: Round) -> list[Contribution]:
    """The updates of a round of training."""
    asked = asked_of(state, rank)
    return [_trained(home, model, asked, row) for row in home.ledger.updates(state.number, "adapter")]


def sums(home: Home, model: Model, state: Round) -> Iterator[dict[int, Statistics]]:
    """The statistics of a round, by rank, board after board."""
    for row in home.ledger.updates(state.number, "statistics"):
        yield statistics_of(home.blobs.get(row["digest"]), _begin(row), model, state.statistics_ranks)


def _trained(home: Home, model: Model, asked: Asked, row: Row) -> Contribution:
    def read() -> Adapter:
        return adapter_of(home.blobs.get(row["digest"]), _begin(row), model, asked)

    return Contribution(row["device"], row["samples"], read, row["metrics"])


def _begin(row: Row) -> Begin:
    """The beginning of an update, as the ledger remembers it."""
    sender = Sender(row["device"], "", 0)
    return Begin(
        sender, row["digest"], row["kind"], row["job"], row["round"], row["base"], row["bytes"], row["samples"]
    )
