"""What a board's contribution is to the versions in use, and the same versions as if it had never been there.

Statistics add, and a head is solved from their sum: the head without a board is solved from the sums of the others, in
the order in which a round without it would have added them, so it is the same to the bit. What was trained on a board
is mixed into factors that later rounds went on from; it cannot be taken out, only left behind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hub.making import contributions, versions
from hub.making.contributions import took_part
from hub.making.making import made_of
from hub.making.model import Model
from hub.rounds.state import Round
from hub.store.ledger import Row
from hub.store.registry import Home


@dataclass(frozen=True)
class Without:
    """A version as if a board had never been in its head, or why there is none.

    Attributes:
        of: digest of the version in use.
        made: the new one; None where it cannot be made.
        why: then the reason, for people.
    """

    of: str
    made: versions.Made | None = None
    why: str = ""


def heads_without(home: Home, model: Model, device: str) -> list[Without]:
    """What becomes of the versions that are released and worked on, as far as their heads owe something to a board."""
    release, tip = home.ledger.release(model.id), home.ledger.tip(model.id)
    found: list[Without] = []
    for digest in dict.fromkeys([*([release["digest"]] if release else []), tip]):
        state = _round_of_head(home, digest)
        if state is not None and _took_part(home, state, device):
            number = home.ledger.versions(model.id)[-1]["number"] + 1 + sum(w.made is not None for w in found)
            found.append(_without(home, model, digest, state, device, number))
    return found


def trained_in(home: Home, model: str, device: str) -> list[int]:
    """The numbers of the versions that were made of a board's training, or of versions that were."""
    touched: set[str] = set()
    for row in home.ledger.versions(model):
        state = home.ledger.round(row["round"]) if row["round"] else None
        own = state is not None and state.kind == "train" and any(p["device"] == device for p in row["participants"])
        if own or touched & set(row["parents"]):
            touched.add(row["digest"])
    return [row["number"] for row in home.ledger.versions(model) if row["digest"] in touched]


def _round_of_head(home: Home, digest: str) -> Round | None:
    """The round of statistics that a version's head is of; None if it is of none."""
    head = made_of(home, digest).version.head
    while head:
        version = made_of(home, digest).version
        older = made_of(home, version.parent).version if version.parent else None
        if older is None or older.head != head:
            state = home.ledger.round(version.round) if version.round else None
            return state if state is not None and state.kind == "statistics" else None
        digest = version.parent
    return None


def _took_part(home: Home, state: Round, device: str) -> bool:
    return home.ledger.update_of(state.number, device, state.update_kind) is not None


def _without(home: Home, model: Model, digest: str, state: Round, device: str, number: int) -> Without:
    others = [row for row in home.ledger.updates(state.number, state.update_kind) if row["device"] != device]
    why = _problem(others, state)
    if why:
        return Without(digest, why=f"{why}; open a round of statistics without it")
    sums = contributions.sums(home, model, state, without=device)
    parent = made_of(home, digest)
    made = versions.from_statistics(parent, number, state.number, sums, state.recipe, home.blobs, home.key)
    total = max(1, sum(row["samples"] for row in others))
    shares = [row["samples"] / total for row in others]
    return Without(digest, replace(made, participants=took_part(others, shares)))


def _problem(others: list[Row], state: Round) -> str:
    """Why the head of a round cannot be made again of the others."""
    if state.secure is not None:
        return f"round {state.number} knows the sum of its boards alone, so none can be taken out of it"
    if not others:
        return f"the head of round {state.number} is of this board alone"
    if any(row["dropped_at_s"] is not None for row in others):
        return f"the others' sums of round {state.number} were let go by [retention]"
    return ""
