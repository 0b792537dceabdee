"""From the journal to a version: what a round counts, one update at a time, in an order that arrival cannot change."""

from __future__ import annotations

from collections.abc import Iterator

from console.errors import HubError
from hub import versions
from hub.check import adapter_of, statistics_of
from hub.ledger import Row
from hub.model import Model
from hub.registry import Home
from hub.round import Round
from wire.adapter import Adapter
from wire.kinds.head import Statistics
from wire.messages import Begin, Sender
from wire.scores import Score, read_scores


def make(home: Home, model: Model, rank: int, state: Round) -> versions.Made:
    """The version of a round of training or statistics; the same journal gives the same bytes.

    Raises:
        HubError: nothing comes of these updates.
        StorageError: blobs cannot be read or written.
    """
    parent = made_of(home, state.versions[0])
    number = home.ledger.versions()[-1]["number"] + 1
    if state.kind == "train":
        updates = _factors(home, model, rank, state.number)
        return versions.from_factors(parent, number, state.number, model, updates, home.blobs, home.key)
    sums = _statistics(home, model, state)
    return versions.from_statistics(parent, number, state.number, sums, home.blobs, home.key)


def scores_of_round(home: Home, model: Model, number: int) -> list[Score]:
    """All scores that a round counts, device by device."""
    found = []
    for row in home.ledger.updates(number, "scores"):
        data = home.blobs.get(row["digest"])
        found += read_scores(data, len(model.labels), f"the scores of {row['device']}")
    return found


def made_of(home: Home, digest: str) -> versions.Made:
    """A version of the ledger.

    Raises:
        HubError: there is none of that digest.
    """
    row = home.ledger.version(digest)
    if row is None:
        raise HubError(f"expected version {digest[:12]} in the ledger, found none; restore it from a backup")
    return versions.read_made(row)


def _factors(home: Home, model: Model, rank: int, number: int) -> Iterator[tuple[Adapter, float]]:
    for row in home.ledger.updates(number, "adapter"):
        yield adapter_of(home.blobs.get(row["digest"]), _begin(row), model, rank), float(row["samples"])


def _statistics(home: Home, model: Model, state: Round) -> Iterator[dict[int, Statistics]]:
    for row in home.ledger.updates(state.number, "statistics"):
        yield statistics_of(home.blobs.get(row["digest"]), _begin(row), model, state.statistics_ranks)


def _begin(row: Row) -> Begin:
    """The beginning of an update, as the ledger remembers it."""
    sender = Sender(row["device"], "", 0)
    return Begin(
        sender, row["digest"], row["kind"], row["job"], row["round"], row["base"], row["bytes"], row["samples"]
    )
