"""The request about importance: what a version knows of slots, and how far that is from what plans rest on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from console.errors import HubError
from hub.making import importance
from hub.serving.desk import Desk
from hub.store.ledger import Row
from hub.store.names import version_digest
from hub.store.writes import put
from wire.importance.standing import file_of
from wire.record import plain


def _importance(desk: Desk, request: Row) -> Row:
    """What is known, as a file has it; with `take` plans are from now on taken to rest on it.

    Raises:
        HubError: nothing is known yet.
    """
    home, model = desk.home, desk.model.id
    digest = version_digest(home, model, str(request.get("version") or "tip"))
    known = importance.known_of(home, digest)
    if not known.stage:
        raise HubError(
            "expected a version whose boards told how much their slots matter, found none; open a train round "
            "(hub.toml: rounds.importance), with agents of this version"
        )
    before = importance.planned_with(home, model, known)
    far, threshold = importance.distance(before, known), home.config.rounds.importance_moved
    if request.get("take"):
        with home.ledger.transaction() as tx:
            put(tx, f"{importance.TAKEN} {model}", digest)
    found: dict[str, Any] = plain(file_of(known, model))
    said = importance.note(before, known, threshold)
    return {
        "importance": found,
        "version": known.version,
        "planned_with": before.version,
        "moved": far,
        "threshold": threshold,
        "advice": said[0] if said else "",
    }


TABLE: dict[str, Callable[[Desk, Row], Row]] = {"importance": _importance}
