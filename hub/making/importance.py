"""How much slots matter, as boards tell beside their updates: averaged over boards, and from version to version.

A version of the ledger keeps what was known when it was made, in its metrics: it follows from the version before it
and from the journalled updates of its round, so that a hub that is killed and makes the version again finds the same.
Who goes back to an earlier version goes back to what was known then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from console.errors import BadData
from hub.making.contributions import KINDS
from hub.making.model import Model
from hub.rounds.state import Round
from hub.store.ledger import Row
from hub.store.names import version_digest
from hub.store.registry import Home
from wire.adapter import read_told as metadata_of
from wire.importance.moved import moved
from wire.importance.standing import Known, after
from wire.importance.told import KEY, read_told
from wire.record import plain, read_record

log = logging.getLogger("edgequilt.hub")
TAKEN = "importance"  # before a model's id, a key of the ledger's single values: the version whose file was taken


def told_by(home: Home, model: Model, rows: Iterable[Row]) -> dict[str, list[float]]:
    """What the updates of a round say, by slot; a device that says something else is left out, and its update not.

    Raises:
        StorageError: a blob cannot be read.
    """
    found: dict[str, list[float]] = {}
    for device, told in _by_device(home, rows).items():
        known = {slot.name for slot in model.slots}
        if told.keys() - known:
            log.warning("%s told the importance of slots that the model does not have; it was ignored", device)
            continue
        for name, value in told.items():
            found.setdefault(name, []).append(value)
    return found


def _by_device(home: Home, rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    out: dict[str, dict[str, float]] = {}
    for row in rows:
        try:
            told = read_told(metadata_of(home.blobs.path(row["digest"])).get(KEY, ""), row["device"])
        except BadData as problem:
            log.warning("%s", problem)
            continue
        out.setdefault(row["device"], {}).update(told)
    return {device: told for device, told in out.items() if told}


def known_of(home: Home, digest: str) -> Known:
    """What a version knows, or the nearest before it that knows something."""
    while digest:
        row = home.ledger.version(digest)
        if row is None:
            break
        kept = (row["metrics"] or {}).get("importance")
        if kept:
            return read_record(Known, kept, f"the importance of version {row['number']}")
        digest = row["parent"]
    return Known()


def learned(home: Home, model: Model, state: Round, parent: str, number: int) -> tuple[Row, tuple[str, ...]]:
    """What the updates of a round add: metrics of its version, and what to say of it to people.

    Args:
        home: the hub's folder, opened.
        model: of the round.
        state: the round; what nobody was asked for is not looked at.
        parent: digest of the version before.
        number: of the version.

    Raises:
        StorageError: a blob cannot be read.
    """
    rows = [row for row in home.ledger.updates(state.number, None, state.latest) if row["kind"] in KINDS]
    told = told_by(home, model, rows) if state.settings.get("importance") else {}
    if not told:
        return {}, ()
    known = after(known_of(home, parent), told, number)
    said = note(planned_with(home, model.id, known), known, home.config.rounds.importance_moved)
    return {"importance": plain(known)}, said


def planned_with(home: Home, model: str, known: Known) -> Known:
    """What plans rest on: what the version knew whose file was taken last, else the first that knew something."""
    taken = home.ledger.get(f"{TAKEN} {model}")
    if taken and home.ledger.version(taken) is not None:
        return known_of(home, taken)
    if known.first in (0, known.version):
        return known
    return known_of(home, version_digest(home, model, str(known.first)))


def distance(before: Known, now: Known) -> float:
    """How much importance moved, see `wire.importance.moved`."""
    return moved(before.products, now.products) if before.stage and now.stage else 0.0


def note(before: Known, now: Known, threshold: float) -> tuple[str, ...]:
    """For people, where plans that were made by `before` are too old."""
    far = distance(before, now)
    if far <= threshold:
        return ()
    sentence = (
        f"importance moved by {far:.2f} since version {before.version}, more than {threshold:g}: plan again "
        "(edgequilt hub importance --out FILE, then edgequilt plan --importance FILE)"
    )
    return (sentence,)
