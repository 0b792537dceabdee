"""Databases that are locked, full, unwritable, gone or in use; and what their errors say, and do not say."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text

from console.errors import HubError, StorageError, UsageError
from hub.store import database as db
from hub.store import schema as t
from hub.store.database import Database, file, server
from hub.store.ledger import Ledger
from hub.store.registry import alone
from hub.store.writes import put, put_receipt
from tests.hub.serving.test_service import counted_once
from tests.hub.test_recovery import digests, story
from tests.hub.world import RANKS, World

MakeWorld = Callable[..., World]
SECRET = "correct-horse"  # a password that nobody may see
NOWHERE = "postgresql+psycopg://hub@127.0.0.1:1/ledger"


def write(ledger: Ledger) -> None:
    """Any transaction."""
    with ledger.transaction() as tx:
        put(tx, "word", "x" * 100_000)


def pragma(tx: Connection, words: str) -> int:
    """Ask SQLite for a setting, or set it."""
    return int(tx.execute(text(f"PRAGMA {words}")).scalar() or 0)


# ------------------------------------------------------------------------------------- two hubs


def test_two_hubs_on_one_folder(tmp_path: Path) -> None:
    """The second is told that the first one runs; when that has ended, it starts."""
    words = "to be free, found a hub running on it; stop that one first"
    with alone(tmp_path), pytest.raises(HubError, match=words), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


@pytest.mark.postgresql
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_two_hubs_on_one_database(database: Database) -> None:
    """The second is refused, wherever its folder is; who only reads is not; after the first one's end it starts."""
    first = Ledger(database)

    with pytest.raises(HubError, match="expected the database to be free, found a hub running on it; stop that one"):
        Ledger(database)
    reading = Ledger(database, reading=True)
    assert reading.rounds() == []

    reading.close()
    first.close()
    Ledger(database).close()


@pytest.mark.postgresql
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_hub_that_lost_its_connection_does_not_write_beside_another(database: Database) -> None:
    """The lock goes with the connection: a hub whose connection ended goes on only if nobody took the lock since."""
    first = Ledger(database)
    write(first)
    _end_connections(database)
    write(first)  # it has connected again
    _end_connections(database)

    second = Ledger(database)
    with pytest.raises(HubError, match="found a hub running on it"):
        write(first)

    second.close()
    write(first)
    first.close()


def _end_connections(database: Database) -> None:
    import psycopg

    where = {"host": str(database.url.query["host"]), "user": "hub", "dbname": str(database.url.database)}
    with psycopg.connect(**where, autocommit=True) as connection:  # type: ignore[arg-type]  # all of them are texts
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


# ------------------------------------------------------------------------------------- what it may say


def test_no_password_is_ever_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot be reached is named without the password, from the file or the environment alike."""
    pytest.importorskip("psycopg")
    (tmp_path / "password").write_text(f"{SECRET}\n")
    from_file = server(NOWHERE, tmp_path / "password")
    monkeypatch.setenv(db.PASSWORD, SECRET)
    for one in (from_file, server(NOWHERE)):
        assert one.url.password == SECRET
        with pytest.raises(StorageError, match="expected to read and write the ledger postgresql.*hub@127") as found:
            Ledger(one)
        for said in (str(found.value), str(one), repr(one), repr(found.value.__cause__)):
            assert SECRET not in said
        assert "see that the server runs" in str(found.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"postgresql+psycopg://hub:{SECRET}@host/ledger", "without a password, found one; put it into a file"),
        (f"postgresql+psycopg://hub@host/ledger?password={SECRET}", "without a password, found one"),
        ("mysql://hub@host/ledger", "found mysql://; mend hub.toml"),
        (f"nonsense {SECRET}", "found something else; mend hub.toml"),
    ],
)
def test_a_url_that_will_not_do(url: str, words: str) -> None:
    """What is wrong is said, and what is secret is not."""
    with pytest.raises(UsageError, match=words) as found:
        server(url)
    assert SECRET not in str(found.value)


# ------------------------------------------------------------------------------------- SQLite's own faults


def test_a_locked_file_is_waited_for_and_then_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody else has the file, writing fails with words; afterwards it goes on."""
    monkeypatch.setattr(db, "BUSY_MS", 20)
    ledger = Ledger(file(tmp_path / "ledger.sqlite"))
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StorageError, match="database is locked"):
        write(ledger)
    other.execute("ROLLBACK")
    write(ledger)

    assert ledger.failures == 1


def test_a_file_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    """No folder, no ledger, one sentence."""
    with pytest.raises(StorageError, match="unable to open database file; free some space or restore"):
        Ledger(file(tmp_path / "nowhere" / "ledger.sqlite"))


def _unwritable(world: World) -> Callable[[], None]:
    """From now on the database is read-only, until what is returned is called."""
    engine = world.hub.home.ledger._engine

    def forbid(connection: Connection) -> None:
        connection.connection.cursor().execute("PRAGMA query_only=ON")

    def lift() -> None:
        event.remove(engine, "engine_connect", forbid)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only=OFF")

    event.listen(engine, "engine_connect", forbid)
    return lift


def _full(world: World) -> Callable[[], None]:
    """From now on the database has no room at all, until what is returned is called."""
    ledger = world.hub.home.ledger
    with ledger.transaction() as tx:
        most = pragma(tx, "max_page_count")
        pragma(tx, f"max_page_count={pragma(tx, 'page_count')}")
    for size in (1000, 1):
        with suppress(StorageError):
            for number in count():
                filling = {"device": "fill", "digest": f"{size}-{number}", "job": "", "status": "", "at_s": 0.0}
                with ledger.transaction() as tx:
                    put_receipt(tx, {**filling, "reason": "x" * size})

    def lift() -> None:
        with ledger.transaction() as tx:
            pragma(tx, f"max_page_count={most}")
            tx.execute(t.receipts.delete().where(t.receipts.c.device == "fill"))

    return lift


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("fault", [_full, _unwritable], ids=["full", "unwritable"])
def test_a_database_that_takes_nothing_is_waited_for(
    make_world: MakeWorld, fault: Callable[[World], Callable[[], None]]
) -> None:
    """In the middle of a round SQLite takes no more: no receipt is given; when it does again, nothing has changed."""
    calm, world = make_world(), make_world()
    story(calm)
    for device in world.devices.values():
        device.jobs_held = True
    world.ask("open", kind="statistics", devices=sorted(RANKS))
    world.network.pump()
    lift = fault(world)
    for device in world.devices.values():
        device.jobs_held = False
    world.settle(3)
    said = " ".join(world.hub.guard.reasons.values())
    given = [r for d in world.devices.values() for r in d.receipts]

    lift()
    story(world)

    assert "disk is full" in said or "readonly database" in said
    assert given == []
    assert digests(world) == digests(calm)
    counted_once(world)
