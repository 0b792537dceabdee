"""The ledger, in a file and on a server: all or nothing, once only, and no older hub on a newer one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from console.errors import HubError, StorageError
from hub.rounds.state import Round, Seat
from hub.store import schema as t
from hub.store.database import Database, file
from hub.store.ledger import Ledger
from hub.store.writes import put, put_job, put_receipt, put_round, put_row, put_tip

ROUND = Round(1, "train", ("a" * 64,), {"steps": 8}, 1, 60.0, 160.0, False, seats=(Seat("barn"),))


def update(**changed: Any) -> dict[str, Any]:
    """A row of the table of updates."""
    return {
        "round": 1,
        "device": "barn",
        "kind": "adapter",
        "digest": "d" * 64,
        "base": "a" * 64,
        "job": "r1-train-barn",
        "samples": 3,
        "bytes": 10,
        "metrics": {"loss": 0.5},
        "at_s": 1.0,
        **changed,
    }


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    """An empty ledger."""
    made = Ledger(database)
    yield made
    made.close()


def test_a_commit_reaches_the_disk(tmp_path: Path) -> None:
    """The file is a write-ahead log that is synced at every commit."""
    ledger = Ledger(file(tmp_path / "ledger.sqlite"))
    with ledger.transaction() as tx:
        found = [tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]

    assert found == ["wal", 2]  # 2 is FULL


def test_what_is_written_together_is_there_together(ledger: Ledger) -> None:
    """A failure inside a transaction leaves nothing of it."""

    def cut() -> None:
        with ledger.transaction() as tx:
            put_round(tx, ROUND, 1.0)
            put_row(tx, t.updates, update())
            raise ValueError("power cut")

    with pytest.raises(ValueError, match="power cut"):
        cut()

    assert ledger.rounds() == []
    assert ledger.updates(1) == []


def test_what_is_read_in_a_transaction_is_read_in_it(ledger: Ledger) -> None:
    """A transaction sees its own writes, and nobody else does before it is there."""
    with ledger.transaction() as tx:
        put_tip(tx, "tiny", "a" * 64)
        assert ledger.tip("tiny") == "a" * 64
        assert Ledger(ledger.database, reading=True).tip("tiny") == ""

    assert ledger.tip("tiny") == "a" * 64


def test_what_is_read_together_is_of_one_moment_until_something_is_written(ledger: Ledger) -> None:
    """One transaction serves all reads, begins anew after a write, and is over at the end of the block."""
    begun = 0

    def begins(connection: object) -> None:
        nonlocal begun
        begun += 1

    event.listen(ledger._engine, "begin", begins)
    with ledger.reading_together():
        assert (ledger.tip("tiny"), ledger.rounds(), ledger.devices()) == ("", [], [])
        assert begun == 1
        with ledger.transaction() as tx:
            put_tip(tx, "tiny", "a" * 64)
        assert (ledger.tip("tiny"), ledger.rounds()) == ("a" * 64, [])
        assert begun == 3

    assert ledger._shared is None
    assert ledger.tip("tiny") == "a" * 64
    assert begun == 4


def test_an_update_counts_once(ledger: Ledger) -> None:
    """A second row for the same round, device and kind is impossible, whatever the code above it does."""
    with ledger.transaction() as tx:
        put_row(tx, t.updates, update())

    with pytest.raises(StorageError, match="(?i)unique constraint"), ledger.transaction() as tx:
        put_row(tx, t.updates, update(digest="e" * 64))
    assert [row["digest"] for row in ledger.updates(1)] == ["d" * 64]


def test_updates_come_in_one_order(ledger: Ledger) -> None:
    """Whatever the order of arrival, updates are listed by device."""
    with ledger.transaction() as tx:
        for device in ("mill", "barn", "coop"):
            put_row(tx, t.updates, update(device=device))

    assert [row["device"] for row in ledger.updates(1)] == ["barn", "coop", "mill"]


def test_first_answers_and_first_jobs_stand(ledger: Ledger) -> None:
    """A receipt or a job that is there already is not replaced."""
    receipt = {"device": "barn", "digest": "d" * 64, "job": "r1-train-barn", "reason": "", "at_s": 1.0}
    job = {"job": "r1-train-barn", "round": 1, "device": "barn", "kind": "train"}
    with ledger.transaction() as tx:
        put_receipt(tx, {**receipt, "status": "accepted"})
        put_receipt(tx, {**receipt, "status": "refused"})
        put_job(tx, {**job, "body": b"first"})
        put_job(tx, {**job, "body": b"second"})

    answers = [ledger.receipt("barn", "d" * 64, "r1-train-barn"), ledger.job("r1-train-barn")]
    assert [row and (row.get("status") or row["body"]) for row in answers] == ["accepted", b"first"]


def test_a_round_comes_back_as_it_was(ledger: Ledger) -> None:
    """A round that was kept is read back equal, by another process too; a closed one is not open."""
    with ledger.transaction() as tx:
        put_round(tx, ROUND, 1.0)
        put_tip(tx, "tiny", "a" * 64)
        put_tip(tx, "tiny", "b" * 64)
    ledger.close()

    again = Ledger(ledger.database)

    assert again.open_rounds() == [ROUND] == again.rounds()
    assert (again.tip("tiny"), again.get("nothing"), again.last_round()) == ("b" * 64, "", 1)


def test_an_older_hub_refuses_a_newer_ledger(ledger: Ledger) -> None:
    """A ledger of a schema from the future is refused with words and left as it is."""
    with ledger.transaction() as tx:
        put(tx, "schema", "5")
    ledger.close()

    for reading in (False, True):
        with pytest.raises(HubError, match=r"expected a ledger of schema 4 or older in .*, found 5; update edgequilt"):
            Ledger(ledger.database, reading=reading)
    with ledger.database.engine().connect() as connection:
        assert connection.execute(t.meta.select()).all() == [("schema", "5")]


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """Garbage instead of a database is one sentence."""
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database, but long enough to be read as one" * 100)

    with pytest.raises(StorageError, match="expected to read and write the ledger .* file is not a database"):
        Ledger(file(tmp_path / "ledger.sqlite"))
