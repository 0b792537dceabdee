"""A PostgreSQL server of the tests' own: a private cluster in a temporary folder, reached through a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from hub.store.database import server
from hub.store.ledger import Ledger

START_S = 60.0
MORTAL = ("setpriv", "--pdeathsig", "INT", "--")  # a run of the tests that is killed leaves no server behind
# what is lost when the machine stops is nobody's loss here
SPEED = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=16MB", "autovacuum=off")
# whoever is still connected goes, and with it its lock
EMPTY = """
DO $$ BEGIN
  PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
  EXECUTE (SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') || ' RESTART IDENTITY'
    FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ('meta', 'alembic_version'));
  DELETE FROM meta WHERE key <> 'schema';
  UPDATE meta SET value = (SELECT version_num FROM alembic_version);
END $$
"""


class Cluster:
    """A running server. Making a database takes long, emptying one does not: those given back are used again."""

    def __init__(self, programs: Path, folder: Path, told: tuple[str, ...] = SPEED) -> None:
        self.programs, self.folder = programs, folder
        self._names, self._used, self._free = count(1), list[str](), list[str]()
        self.run("initdb", "-D", "data", "-U", "hub", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        settings = [word for one in (*told, "listen_addresses=") for word in ("-c", one)]
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*MORTAL, programs / "postgres", "-D", "data", "-k", str(folder), *settings], stderr=log, **self._how()
            )
        ends = time.monotonic() + START_S
        while self._ready() != 0:
            if time.monotonic() > ends or self.process.poll() is not None:
                raise AssertionError(f"expected a server, it says: {(folder / 'log').read_text()}")
            time.sleep(0.05)

    def run(self, program: str, *arguments: str) -> None:
        """One of its programs."""
        subprocess.run([self.programs / program, *arguments], check=True, timeout=60, **self._how())

    def _ready(self) -> int:
        command = [str(self.programs / "pg_isready"), "-q", "-h", str(self.folder)]
        return subprocess.run(command, check=False, timeout=60, **self._how()).returncode

    def _how(self) -> dict[str, Any]:
        """In its folder, with nothing of ours, as a user that it does not refuse."""
        told: dict[str, Any] = {"cwd": self.folder, "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}}
        told |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            told |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        return told

    def stop(self) -> None:
        """End it at once."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)

    def url(self, name: str) -> str:
        """The address of a database."""
        return f"postgresql+psycopg://hub@/{name}?host={self.folder}"

    def empty(self) -> str:
        """The URL of a new database without tables."""
        return self.url(self._create())

    def prepared(self) -> str:
        """The URL of a database with the tables of a ledger, and nothing in them."""
        if self._free:
            name = self._free.pop()
            self._do(name, EMPTY)
        else:
            name = self._create()
            Ledger(server(self.url(name))).close()
        self._used.append(name)
        return self.url(name)

    def give_back(self) -> None:
        """Whoever used a database is done with it."""
        self._free += self._used
        self._used = []

    def _create(self) -> str:
        name = f"ledger_{next(self._names)}"
        self._do("postgres", f"CREATE DATABASE {name}")
        return name

    def _do(self, name: str, statement: str) -> None:
        with psycopg.connect(host=str(self.folder), user="hub", dbname=name, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def cluster(programs: Path, told: tuple[str, ...] = SPEED) -> Iterator[Cluster]:
    """A server for as long as it is needed; a socket's path must be short, pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="edgequilt-pg-", dir="/tmp"))
    try:
        made = Cluster(programs, folder, told)
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
