"""The two ends of an update: the new release stays, or all is as it was before. Each may be begun anew at any point."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from edge.slots.record import BACK, COMMIT, LONGEST, Record
from edge.slots.slots import Slots

At = Callable[[str, str], None]  # told `enter` and `leave` of each state; tests strike there
FOLDER = "program"  # in the state folder: what was fetched


def quiet(when: str, state: str) -> None:
    """Nobody listens."""


def commit(record: Record, slots: Slots, at: At = quiet) -> None:
    """The new release is healthy: it stays, the one before too, all others go."""
    kept = record.kept
    record.enter(COMMIT)
    at("enter", COMMIT)
    slots.keep()
    slots.collect({kept.version, kept.before})
    clear(record)
    at("leave", COMMIT)
    _end(record, done=_sequence(record))


def back(record: Record, slots: Slots, reason: str, at: At = quiet) -> None:
    """The order cannot be followed: undo what was done because of it, and remember why."""
    kept = record.kept
    record.enter(BACK, failed=(reason or kept.failed)[:LONGEST])
    at("enter", BACK)
    if slots.current in ("", kept.version, kept.before):  # else an install has put another one here, which stays
        slots.put_back(kept.before)
    if kept.fresh and kept.version and kept.version != slots.current:
        slots.drop(kept.version)
    slots.sweep()
    clear(record)
    at("leave", BACK)
    _end(record, failed_sequence=_sequence(record))


def clear(record: Record) -> None:
    """Delete what was fetched."""
    shutil.rmtree(fetched(record.path.parent), ignore_errors=True)


def fetched(state: Path) -> Path:
    """Where what is fetched goes."""
    return state / FOLDER


def _end(record: Record, **changes: int) -> None:
    record.note(state="", version="", before="", fresh=False, attempts=0, **changes)


def _sequence(record: Record) -> int:
    seen = record.kept.seen
    return -1 if seen is None else seen.sequence
