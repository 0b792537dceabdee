"""What the ledger knows of each device, as a selection sees it (hub.rounds.selection)."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from console.errors import HubError
from hub.rounds.jobs import SPLIT
from hub.rounds.laps import going_on
from hub.rounds.seating import FRONT, TAIL
from hub.rounds.selection import Board, choose
from hub.rounds.state import Round
from hub.store.ledger import Row
from hub.store.registry import Home
from hub.store.writes import put_device
from wire.messages import ability

OF_ROWS = ("train", "spry", "qzo", "statistics")  # jobs that learn from a device's own rows


def boards_of(home: Home, model: str) -> list[Board]:
    """The devices that serve a model, or did not say which one, by name; those that are believed no more are none."""
    rows = [row for row in home.ledger.devices() if row["model"] in ("", model) and not row["revoked"]]
    return [board_of(row) for row in rows]


def board_of(row: Row) -> Board:
    """One of them; an agent from before a fact was known says nothing of it."""
    hello, marker = row["hello"] or {}, row["marker"] or {}
    return Board(
        name=row["name"],
        online=bool(row["online"]),
        jobs=_jobs(hello),
        samples=hello.get("samples") or 0,
        power=hello.get("power") or "",
        battery_percent=hello.get("battery_percent"),
        network=hello.get("network") or "",
        memory_bytes=hello.get("memory_available_bytes"),
        groups=frozenset(row["groups"] or ()),
        tags=frozenset(row["tags"] or ()),
        quarantine=row["quarantine"],
        counted_samples=marker.get("samples", 0),
        counted_version=marker.get("version", -1),
    )


def _jobs(hello: Row) -> tuple[str, ...]:
    """What a device is asked to do; who has tails and no rows of its own is not asked to learn from those.

    >>> _jobs({"jobs": ["train", "evaluate", "tail"], "samples": 0}), _jobs({"jobs": ["train"], "samples": 0})
    (('evaluate', 'tail'), ('train',))
    """
    jobs = tuple(hello.get("jobs", ()))
    serves = TAIL in jobs and not hello.get("samples")
    return tuple(job for job in jobs if job not in OF_ROWS) if serves else jobs


def next_devices(home: Home, state: Round, counted: list[Row], version: int) -> tuple[str, ...] | None:
    """Whom the next lap of a round asks besides those that go on; None: those that this one asked.

    `counted` are the updates of the version that was just made and that has this number.
    """
    now = {row["device"]: row["samples"] for row in counted}
    boards = [
        replace(b, counted_samples=now[b.name], counted_version=version) if b.name in now else b
        for b in boards_of(home, state.model)
    ]
    busy = {s.device for s in going_on(state)}
    told, online = state.selection, sum(b.online for b in boards if b.name in busy)
    if told.rule != "all":
        told = replace(told, count=max(0, told.count - online))
    free = [b for b in boards if b.name not in busy]
    try:
        found, _ = choose(
            free,
            told,
            ability(state.kind, {k: v for k, v in state.settings.items() if k != SPLIT}),
            f"{state.number}.{state.lap + 1}",
            state.over,
            FRONT if SPLIT in state.settings and state.kind == "train" else "",
        )
    except HubError:
        found = []
    return tuple(found) if found or busy else None


def put_markers(tx: Connection, counted: list[Row], version: int) -> None:
    """Remember of whose rows, and of how many, a version was made."""
    for row in counted:
        marker = {"samples": row["samples"], "version": version}
        put_device(tx, row["device"], trained_at_s=row["at_s"], marker=marker)
