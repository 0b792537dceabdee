"""From the journal to a version: contributions, shares, method, version. The same journal gives the same bytes."""

from __future__ import annotations

from console.errors import HubError
from hub import contributions, versions
from hub.aggregation.method import Emitted
from hub.aggregation.methods import method_of
from hub.aggregation.shares import Shares, by_samples
from hub.contributions import Contribution
from hub.model import Model
from hub.recipe import Recipe
from hub.registry import Home
from hub.round import Round
from wire.ladder import slot_key
from wire.scores import Score, read_scores


def make(home: Home, model: Model, rank: int, state: Round) -> versions.Made:
    """The version of a round of training or statistics.

    Raises:
        HubError: nothing comes of these updates.
        StorageError: blobs cannot be read or written.
    """
    parent = made_of(home, state.versions[0])
    number = home.ledger.versions()[-1]["number"] + 1
    if state.kind == "train":
        found = contributions.trained(home, model, rank, state)
        made = combine(home, model, parent, found, weigh(found, state.recipe), state.recipe, number)
        return versions.from_factors(parent, number, state.number, model, made, home.blobs, home.key)
    sums = contributions.sums(home, model, state)
    return versions.from_statistics(parent, number, state.number, sums, state.recipe, home.blobs, home.key)


def weigh(found: list[Contribution], recipe: Recipe) -> Shares:
    """How much each update counts."""
    return by_samples([c.samples for c in found])


def combine(
    home: Home,
    model: Model,
    parent: versions.Made,
    found: list[Contribution],
    shares: Shares,
    recipe: Recipe,
    number: int,
) -> dict[str, Emitted]:
    """One adapter out of many, by slot; one update is in memory at a time."""
    method, old = method_of(recipe.method), parent.version
    states = {name: method.init(sent) for name, sent in versions.read_ladder(old, home.blobs).items()}
    for one, share in zip(found, shares.values, strict=True):
        if share > 0:
            for name, factors in one.read().lora.items():
                states[name] = method.apply(states[name], factors, float(share))
    keys = {name: slot_key(model.id, name, number) for name in states}
    return {name: method.finish(state, old.rank, old.scale, keys[name], 1.0) for name, state in states.items()}


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
