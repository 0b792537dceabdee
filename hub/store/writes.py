"""What is written to the ledger, row by row; each takes the connection of a `Ledger.transaction`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, extract, func, select

from hub.deployments.deployment import Deployment
from hub.rounds.state import Round
from hub.store import schema as t
from hub.store.database import insert
from wire.record import plain

DATABASE_NOW_S = extract("epoch", func.clock_timestamp())  # of PostgreSQL: one clock for all machines


def put(tx: Connection, key: str, value: str) -> None:
    """Set a single value of `meta`."""
    statement = insert(tx, t.meta).values(key=key, value=value)
    tx.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": value}))


def next_sequence(tx: Connection) -> int:
    """The next place in the one order of all that devices are told to be, above what a lost ledger may have given."""
    tables = (t.releases, t.assignments, t.orders)
    last = max(tx.execute(select(func.max(table.c.sequence))).scalar() or 0 for table in tables)
    floor = tx.execute(select(t.meta.c.value).where(t.meta.c.key == "sequence_floor")).scalar() or 0
    return max(last, int(floor)) + 1


def put_tip(tx: Connection, model: str, digest: str) -> None:
    """Say which version work on a model goes on from."""
    statement = insert(tx, t.models).values(model=model, tip=digest)
    tx.execute(statement.on_conflict_do_update(index_elements=["model"], set_={"tip": digest}))


def put_assignment(tx: Connection, device: str, bundle: str, why: str, now_s: float) -> None:
    """Say which bundle a device gets from now on."""
    values = {"bundle": bundle, "sequence": next_sequence(tx), "why": why, "failed": "", "at_s": now_s}
    statement = insert(tx, t.assignments).values(device=device, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["device"], set_=values))


def put_order(tx: Connection, device: str, program: str, now_s: float) -> None:
    """Say which release of the agent a device is to be from now on."""
    values = {"program": program, "sequence": next_sequence(tx), "failed": "", "at_s": now_s}
    statement = insert(tx, t.orders).values(device=device, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["device"], set_=values))


def put_row(tx: Connection, table: Any, values: Mapping[str, Any]) -> None:
    """Insert a row; an equal key is an error of ours."""
    tx.execute(table.insert().values(**values))


def put_job(tx: Connection, values: Mapping[str, Any]) -> None:
    """Keep a job; one that is there stays as it was first sent."""
    tx.execute(insert(tx, t.jobs).values(**values).on_conflict_do_nothing())


def put_receipt(tx: Connection, values: Mapping[str, Any]) -> None:
    """Keep an answer; the first one stands."""
    tx.execute(insert(tx, t.receipts).values(**values).on_conflict_do_nothing())


def put_arrival(tx: Connection, values: Mapping[str, Any]) -> None:
    """Hand an update on to the hub; the first one stands."""
    tx.execute(insert(tx, t.arrivals).values(**values).on_conflict_do_nothing())


def drop_arrival(tx: Connection, number: int) -> None:
    """The hub has answered it."""
    tx.execute(t.arrivals.delete().where(t.arrivals.c.id == number))


def put_worker(tx: Connection, name: str, taken: int) -> None:
    """Say that a worker is there."""
    values = {"at_s": DATABASE_NOW_S, "taken": taken}
    statement = insert(tx, t.workers).values(name=name, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def drop_worker(tx: Connection, name: str) -> None:
    """Say that a worker is gone."""
    tx.execute(t.workers.delete().where(t.workers.c.name == name))


def put_mask(tx: Connection, values: Mapping[str, Any]) -> None:
    """Keep what a board said of a sum under masks; what it said first stands."""
    tx.execute(insert(tx, t.masks).values(**values).on_conflict_do_nothing())


def drop_masks(tx: Connection, number: int) -> None:
    """Forget what boards said of the sum of a round: it is opened, or will not be."""
    tx.execute(t.masks.delete().where(t.masks.c.round == number))


def drop_updates(tx: Connection, ids: list[int], now_s: float) -> None:
    """Say that the blobs of some updates are let go."""
    tx.execute(t.updates.update().where(t.updates.c.id.in_(ids)).values(dropped_at_s=now_s))


def forget_device(tx: Connection, name: str) -> None:
    """Forget all that an enrolled device sent and said; its name stays where people read who took part."""
    for table in (t.updates, t.receipts, t.jobs, t.masks):
        tx.execute(table.delete().where(table.c.device == name))
    tx.execute(t.events.delete().where(t.events.c.device == name))
    unknown: dict[str, Any] = {
        "hello": None,
        "trained_at_s": None,
        "marker": None,
        "tags": [],
        "online": False,
        "seen_at_s": None,
    }
    put_device(tx, name, **unknown)
    for row in tx.execute(select(t.versions.c.digest, t.versions.c.participants)).all():
        if any(part["device"] == name for part in row.participants):
            parts = [{**part, "samples": None} if part["device"] == name else part for part in row.participants]
            tx.execute(t.versions.update().where(t.versions.c.digest == row.digest).values(participants=parts))


def put_round(tx: Connection, state: Round, now_s: float) -> None:
    """Keep the state of a round."""
    values = {"model": state.model, "kind": state.kind, "phase": state.phase, "state": plain(state)}
    statement = insert(tx, t.rounds).values(number=state.number, opened_at_s=now_s, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["number"], set_=values))


def put_deployment(tx: Connection, model: str, version: int, state: Deployment, now_s: float) -> None:
    """Keep the state of a deployment."""
    values = {
        "model": model,
        "version": version,
        "digest": state.version,
        "group": state.group,
        "state": state.phase,
        "against": state.against,
        "round": state.round or None,
        "sentence": state.sentence,
        "closed_at_s": None if state.is_open else now_s,
        "detail": plain(state),
    }
    statement = insert(tx, t.deployments).values(id=state.number, opened_at_s=now_s, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))


def put_device(tx: Connection, name: str, **values: Any) -> None:
    """Change what is known of an enrolled device."""
    tx.execute(t.devices.update().where(t.devices.c.name == name).values(**values))
