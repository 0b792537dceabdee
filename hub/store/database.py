"""Where a ledger lies: a SQLite file in the hub's folder, or a PostgreSQL database. What differs between them is here.

SQLite: a write-ahead log with `synchronous=FULL`; who may write is settled by the lock of the hub's folder.
PostgreSQL: one connection, which holds an advisory lock for as long as it lives: whoever writes holds the lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError

from console.errors import HubError, MissingDependency, UsageError
from wire.files import read_bytes

PASSWORD = "EDGEQUILT_DATABASE_PASSWORD"  # noqa: S105  # the variable's name, not the password
DRIVER = "postgresql+psycopg"
LOCK = 0x6564_6765  # one number for all hubs: a database holds one ledger
BUSY_MS = 5000  # how long to wait for whoever else has the file
CONNECT_TIMEOUT_S = 10
INSERT: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True)
class Database:
    """A place for a ledger; its text never holds the password."""

    url: URL
    mend: str  # what to do when it fails

    def __str__(self) -> str:
        shown = self.path or self.url._replace(password=None)
        return str(shown)

    @property
    def path(self) -> Path | None:
        """The file, if it is one."""
        return Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None

    def engine(self, *, reading: bool = False) -> Engine:
        """Connections to it; `reading` leaves the lock to others.

        Raises:
            MissingDependency: the driver is not installed.
        """
        if self.path is not None:
            made = create_engine(self.url)
            event.listen(made, "connect", _pragmas)
            event.listen(made, "begin", _begin)
            return made
        options = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "edgequilt hub"}
        try:
            made = create_engine(
                self.url, pool_size=1, max_overflow=0, pool_timeout=5, pool_pre_ping=True, connect_args=options
            )
        except ImportError as error:
            raise MissingDependency(
                "expected the driver of PostgreSQL, found none; install it with `pip install 'edgequilt[postgresql]'`"
            ) from error
        if not reading:
            event.listen(made, "connect", _lock)
        return made


def file(path: Path) -> Database:
    """A SQLite file."""
    return Database(
        URL.create("sqlite", database=str(path)), "free some space or restore the hub's folder from a backup"
    )


def server(url: str, password_file: Path | None = None) -> Database:
    """A PostgreSQL database by its URL.

    Raises:
        UsageError: it is not such a URL, or has a password in it.
        StorageError: the password's file cannot be read.
    """
    wanted = f"{DRIVER}://USER@HOST/NAME"
    try:
        made = make_url(url)
    except ArgumentError as error:
        raise UsageError(f"expected database.url as {wanted}, found something else; mend hub.toml") from error
    if made.drivername != DRIVER:
        raise UsageError(f"expected database.url as {wanted}, found {made.drivername}://; mend hub.toml")
    if made.password is not None or "password" in made.query:
        raise UsageError(
            f"expected database.url without a password, found one; put it into a file and name that as "
            f"database.password_file, or into the variable {PASSWORD}"
        )
    if password_file is not None:
        secret = read_bytes(password_file, "the password of the database", 4096).decode().strip()
    else:
        secret = os.environ.get(PASSWORD, "")
    return Database(made.set(password=secret or None), "see that the server runs and takes the user of hub.toml")


def insert(tx: Connection, table: Table) -> Any:
    """An insert that may say what happens where a row is there already; both databases say it alike."""
    return INSERT[tx.dialect.name](table)


def _pragmas(connection: Any, record: object) -> None:
    connection.isolation_level = (
        None  # else the driver keeps changes of tables out of transactions; `_begin` begins them
    )
    cursor = connection.cursor()
    # secure_delete: what is taken out, of inputs of a fix say, is overwritten
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=FAST",
        f"busy_timeout={BUSY_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _lock(connection: Any, record: object) -> None:
    with connection.cursor() as cursor:
        held = cursor.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()[0]
    connection.commit()
    if not held:
        raise HubError("expected the database to be free, found a hub running on it; stop that one first")
