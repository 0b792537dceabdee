"""Ledgers of older schemas are brought up to date, all or nothing; the tables are then those of hub/store/schema.py."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from console.errors import HubError, StorageError
from hub.migrations import upgrade
from hub.store import schema as t
from hub.store.database import Database, file, server
from hub.store.ledger import Ledger

FIRST = Path(__file__).parent / "ledger-1.sql"  # of edgequilt 0.1: a complete round, and one that was open


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A ledger of schema 1."""
    path = tmp_path / "ledger.sqlite"
    made = sqlite3.connect(path)
    made.executescript(FIRST.read_text(encoding="utf-8"))
    made.close()
    return path


@pytest.fixture
def bare(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Database:
    """A place without any table."""
    return file(tmp_path / "new.sqlite") if backend == "sqlite" else server(request.getfixturevalue("cluster").empty())


def differences(database: Database) -> list[Any]:
    """What Alembic would have to change to make the tables those of the metadata."""
    engine = database.engine()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found: list[Any] = compare_metadata(context, t.metadata)
    engine.dispose()
    return found


def test_a_new_ledger_has_the_tables_of_the_metadata(bare: Database) -> None:
    """The migrations, one after the other, leave what hub/store/schema.py says: names, types, constraints."""
    Ledger(bare).close()

    assert differences(bare) == []


def test_an_old_ledger_becomes_a_new_one(first: Path) -> None:
    """What was in it is there; its model, descent and participants are said now."""
    before = sqlite3.connect(first)
    counts = {name: before.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("jobs", "receipts")}
    (tip,) = before.execute("SELECT value FROM meta WHERE key = 'tip'").fetchone()
    before.close()

    ledger = Ledger(file(first))

    assert differences(file(first)) == []
    assert [(v["model"], v["number"], v["participants"]) for v in ledger.versions("tiny")] == [
        ("tiny", 0, []),
        ("tiny", 1, ["barn", "coop", "mill"]),
    ]
    assert ledger.versions()[1]["parents"] == [ledger.versions()[0]["digest"]]
    assert (ledger.tip("tiny"), ledger.get("tip"), ledger.get("schema")) == (tip, "", "4")
    assert [(r.number, r.model, r.phase) for r in ledger.rounds()] == [
        (1, "tiny", "complete"),
        (2, "tiny", "collecting"),
    ]
    assert [(u["device"], u["lap"], u["base_number"]) for u in ledger.updates(2)] == [("barn", 0, 1)]
    assert (ledger.release("tiny") or {})["version"] == 1
    assert ledger.release("tiny", "canary") is None
    assert len(ledger.receipts(99)) == counts["receipts"]
    assert ledger.job("r2-train-coop") is not None
    assert {(d["name"], d["model"], d["quarantine"]) for d in ledger.devices()} == {
        (name, "tiny", "") for name in ("barn", "coop", "mill")
    }


def test_a_migration_that_fails_changes_nothing(first: Path) -> None:
    """A step that cannot be completed leaves the ledger as it was, for the older edgequilt too."""
    made = sqlite3.connect(first)
    made.execute("DELETE FROM meta WHERE key = 'tip'")  # the last step looks for it, after the tables were changed
    made.commit()
    before = list(made.iterdump())
    made.close()

    with pytest.raises(StorageError, match="expected to read and write the ledger"):
        Ledger(file(first))

    assert list(sqlite3.connect(first).iterdump()) == before


def test_who_only_reads_does_not_migrate(first: Path) -> None:
    """An old ledger is refused with words where it may not be changed."""
    with pytest.raises(HubError, match="expected a ledger of schema 4 in .*, found 1; start the hub"):
        Ledger(file(first), reading=True)
    assert sqlite3.connect(first).execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == ("1",)


def test_an_old_ledger_without_a_bundle(tmp_path: Path) -> None:
    """A hub that knew no model yet is brought up to date, too."""
    database = file(tmp_path / "ledger.sqlite")
    engine = database.engine()
    with engine.begin() as tx:
        upgrade(tx, 0, "1")
        tx.exec_driver_sql("DROP TABLE alembic_version")

    ledger = Ledger(database)

    assert ledger.versions() == []
    assert "models" in inspect(engine).get_table_names()
