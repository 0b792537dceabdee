"""The outbox's rows, in SQLite: which updates wait, and which receipts came.

One transaction per change, on disk when it returns (WAL, synchronous=FULL). A database that is damaged is never fatal:
`salvage` makes the next one of what is known otherwise and what can still be read, and leaves it where it is.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from console.errors import StorageError
from wire.files import sync_folder
from wire.json_text import parse_json

Row = dict[str, Any]
RECEIPT = ("digest", "job", "kind", "round", "bytes", "status", "reason")
TABLES = """
CREATE TABLE IF NOT EXISTS waiting (number INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS receipts (
  number INTEGER PRIMARY KEY, digest TEXT NOT NULL, job TEXT NOT NULL, kind TEXT NOT NULL, round INTEGER NOT NULL,
  bytes INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, UNIQUE (job, digest));
"""
SETTINGS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -128",  # KiB: this is in the agent's core all day
    "PRAGMA wal_autocheckpoint = 64",  # pages; the file keeps its size, so a receipt needs no room on a full disk
)


class Damaged(StorageError):
    """The file is no whole database."""


class Records:
    """The rows of one outbox.

    Raises:
        Damaged: the file is no whole database.
        StorageError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path, is_new = path, not path.exists()
        with self._worded("be opened"):
            # one thread at a time has it, not always the one that opened it
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                for setting in SETTINGS:
                    self._db.execute(setting)
                found = self._db.execute("PRAGMA quick_check(1)").fetchone()
                if found != ("ok",):
                    raise Damaged(" ".join(str(found[0]).split()))
                with self._transaction():
                    for statement in TABLES.split(";")[:-1]:
                        self._db.execute(statement)
                if is_new:
                    sync_folder(path.parent)
            except BaseException:
                self._db.close()
                raise

    def waiting(self) -> list[tuple[str, Any]]:
        """Digest and record of the updates without a receipt, the oldest first; None for what is no JSON."""
        with self._worded("be read"):
            rows = self._db.execute("SELECT digest, record FROM waiting ORDER BY number").fetchall()
        return [(str(digest), _parsed(record)) for digest, record in rows]

    def receipts(self) -> list[Row]:
        """The receipts that are kept, the oldest first."""
        with self._worded("be read"):
            rows = self._db.execute(f"SELECT {', '.join(RECEIPT)} FROM receipts ORDER BY number").fetchall()  # noqa: S608  # names of ours
        return [dict(zip(RECEIPT, row, strict=True)) for row in rows]

    def put(self, digest: str, record: Row) -> None:
        """Let an update wait."""
        with self._worded("take an update"), self._transaction():
            _put(self._db, digest, json.dumps(record))

    def receipt(self, row: Row, keep: int) -> None:
        """The update of a receipt waits no more; of all receipts the latest `keep` stay."""
        with self._worded("take a receipt"), self._transaction():
            self._db.execute("DELETE FROM waiting WHERE digest = ?", (row["digest"],))
            _receipt(self._db, row)
            self._db.execute(
                "DELETE FROM receipts WHERE number <= (SELECT max(number) FROM receipts) - ?", (max(1, keep),)
            )

    def adopt(self, waiting: Iterable[tuple[str, Row]], receipts: Iterable[Row]) -> None:
        """Take over rows, all or none; those that are here stay as they are."""
        with self._worded("take rows over"), self._transaction():
            for digest, record in waiting:
                _put(self._db, digest, json.dumps(record))
            for row in receipts:
                _receipt(self._db, row)

    def drop(self, digest: str) -> None:
        """An update waits no more, without a receipt: its bytes are gone."""
        with self._worded("drop an update"), self._transaction():
            self._db.execute("DELETE FROM waiting WHERE digest = ?", (digest,))

    def largest(self, kind: str) -> int:
        """Bytes of the largest update of a kind that has a receipt here; 0: there is none."""
        with self._worded("be read"):
            (found,) = self._db.execute("SELECT max(bytes) FROM receipts WHERE kind = ?", (kind,)).fetchone()
        return int(found or 0)

    def close(self) -> None:
        """Close the database."""
        with suppress(sqlite3.Error):
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # a full disk has rolled it back
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _worded(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"expected {self.path} to {what}, found: {error}; free some space, or see who has it"
            ) from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # itself, none of its kinds: the file is damaged
            raise Damaged(str(error)) from error


def salvage(old: Path, new: Path, waiting: list[tuple[str, Row]]) -> int:
    """Make a database of these updates and the receipts of a damaged one; it is there whole or not at all.

    Returns:
        How many receipts could be read.

    Raises:
        StorageError: it cannot be written.
    """
    receipts = [dict(zip(RECEIPT, row, strict=True)) for row in _readable(old)]
    temporary = new.with_name(f".{new.name}")
    for left in new.parent.glob(f"{temporary.name}*"):
        left.unlink()
    made = Records(temporary)
    made.adopt(waiting, receipts)
    made.close()  # the last one to close it writes everything into the one file
    temporary.replace(new)
    sync_folder(new.parent)
    return len(receipts)


def _readable(path: Path) -> list[tuple[Any, ...]]:
    """The receipts that can be read, from both ends up to what is damaged."""
    found: dict[int, tuple[Any, ...]] = {}
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.Error, UnicodeDecodeError), closing(sqlite3.connect(path)) as db:
            rows = db.execute(f"SELECT number, {', '.join(RECEIPT)} FROM receipts ORDER BY number {order}")  # noqa: S608  # names of ours
            for number, *row in rows:
                if all(isinstance(value, (str, int)) for value in row):
                    found[number] = tuple(row)
    return [found[number] for number in sorted(found)]


def _parsed(record: object) -> Any:
    with suppress(ValueError, TypeError, AttributeError):
        return parse_json(record, finite=False)  # type: ignore[arg-type]  # SQLite holds what it was given, or damage
    return None


def _put(db: sqlite3.Connection, digest: str, record: str) -> None:
    db.execute(
        "INSERT INTO waiting (digest, record) VALUES (?, ?)"
        " ON CONFLICT (digest) DO UPDATE SET record = excluded.record",
        (digest, record),
    )


def _receipt(db: sqlite3.Connection, row: Row) -> None:
    values = [row.get(name, "" if name in ("status", "reason") else 0) for name in RECEIPT]
    marks = ", ".join("?" * len(RECEIPT))
    db.execute(f"INSERT OR IGNORE INTO receipts ({', '.join(RECEIPT)}) VALUES ({marks})", values)  # noqa: S608  # names of ours
