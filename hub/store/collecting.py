"""Blobs that nobody needs: updates that were kept long enough, and files that nothing names.

That an update is let go is committed before its file goes, so a kill in between leaves a file that nothing names; the
next time finds it. What a version, an open round or an update that is kept names is never touched. Files that nothing
names are left alone for a day: a blob is written before the row that names it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from hub.making import remembering, versions
from hub.store.ledger import Row
from hub.store.registry import Home
from hub.store.writes import drop_updates

DAY_S = 86_400.0
KEPT_KINDS = ("scores",)  # counts per class: `hub round show` reads them


@dataclass(frozen=True)
class Waste:
    """What may go: rows of updates, and blobs that nothing names once these are let go."""

    updates: tuple[Row, ...]
    blobs: tuple[str, ...]


def collect(home: Home, now_s: float, *, dry_run: bool = False) -> dict[str, Any]:
    """Delete what nobody needs; what it was, for people.

    Args:
        home: the hub's folder, opened, of this process alone.
        now_s: by the hub's clock.
        dry_run: only say it.

    Raises:
        StorageError: the ledger or the file system refuses.
    """
    found = waste(home, now_s)
    bytes_ = sum(size(home, name) for name in found.blobs)
    if not dry_run:
        if found.updates:
            with home.ledger.transaction() as tx:
                drop_updates(tx, [row["id"] for row in found.updates], now_s)
        for name in found.blobs:
            home.blobs.delete(name)
    return {"updates": len(found.updates), "blobs": len(found.blobs), "bytes": bytes_, "dry_run": dry_run}


def waste(home: Home, now_s: float) -> Waste:
    """What nobody needs."""
    rows = [row for row in home.ledger.all_updates() if row["dropped_at_s"] is None]
    gone = expired(home, rows, now_s)
    ids = {row["id"] for row in gone}
    kept = {row["digest"] for row in rows if row["id"] not in ids} | of_versions(home)
    own = {row["digest"] for row in home.ledger.all_updates()}  # let go or not, these were named once
    lost = {name for name in home.blobs.names(time.time() - DAY_S) if name not in kept}
    named = {name for name in own - kept if home.blobs.path(name).exists()}
    return Waste(tuple(gone), tuple(sorted(lost | named)))


def expired(home: Home, rows: list[Row], now_s: float) -> list[Row]:
    """The updates that hub.toml would keep no longer; those of open rounds are kept."""
    told, states = home.config.retention, {state.number: state for state in home.ledger.rounds()}
    over = sorted(number for number, state in states.items() if not state.is_open)
    later = {number: len(over) - place - 1 for place, number in enumerate(over)}
    return [
        row
        for row in rows
        if row["round"] in later
        and row["kind"] not in KEPT_KINDS
        and (
            (told.updates_days and now_s - row["at_s"] > told.updates_days * DAY_S)
            or (told.updates_rounds and later[row["round"]] >= told.updates_rounds)
        )
    ]


def of_versions(home: Home) -> set[str]:
    """All that versions name, and what is named by that."""
    made = [versions.read_made(row).version for row in home.ledger.versions()]
    names = {name for version in made for name in versions.blob_names(version)}
    return names | {name for version in made for name in remembering.blob_names(home.blobs, version.optimiser)}


def size(home: Home, name: str) -> int:
    """Bytes of a blob; 0 if it is not there."""
    path = home.blobs.path(name)
    return path.stat().st_size if path.exists() else 0
