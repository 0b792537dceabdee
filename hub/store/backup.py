"""A backup: one file with all that a hub must not lose, taken while it runs, and complete or not there.

A tar of `backup.json` (names, sizes and SHA-256 of the rest), the ledger as SQLite's backup interface copies it, the
blobs that this copy names, `hub.toml` and what lies beside it. Blobs are written before a row names them and are not
changed afterwards, so a copy of the ledger that is taken first names only blobs that are there. Files of bundles, which
may be large and can be added again, are in it where that is asked for. Where the ledger is
in PostgreSQL its own programs copy it: `pg_dump` first, then this.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from console.errors import IntegrityError, StorageError
from hub.authority import CERTIFICATE, SECRET
from hub.bundles.keeping import Checked
from hub.config import FILE, Config, read_config
from hub.hardware import place_in
from hub.identity import rotation
from hub.making import remembering, versions
from hub.store import database
from hub.store.blobs import Blobs
from hub.store.bundle_files import FOLDER, named_files
from hub.store.database import Database
from hub.store.ledger import Ledger
from hub.store.registry import KEY, database_of
from wire.files import BLOCK_BYTES, file_digest, sync_folder
from wire.record import DIGEST, at_least, matching, plain

FORMAT, SCHEMA = "edgequilt-backup", 1
INDEX, LEDGER = "backup.json", "ledger.sqlite"
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Part:
    """A file of a backup."""

    name: str
    bytes: int = field(metadata=at_least(0))
    sha256: str = field(metadata=matching(DIGEST))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Index:
    """What `backup.json` says."""

    format: str
    schema: int
    fleet: str
    at_s: float  # seconds since 1970, for people
    keys: bool  # whether secret keys are inside
    parts: tuple[Part, ...]
    database: str = ""  # where the ledger is, if it is not inside
    extra: dict[str, Any] = field(default_factory=dict)


def back_up(
    folder: Path, out: Path, *, keys: bool, bundles: bool = False, advance: Advance = lambda n: None
) -> dict[str, Any]:
    """Write a backup of a hub's folder; a running hub is not disturbed.

    Args:
        folder: the hub's.
        out: the file, which must not be there; only its owner can read it.
        keys: whether the hub's secret key, and what logs in to its broker, go into it.
        bundles: whether the files of bundles and of releases of the agent do.
        advance: told the bytes of each block.

    Raises:
        UsageError: there is no hub in the folder.
        StorageError: the file is there already, or something cannot be read or written.
        IntegrityError: a blob, or a file of a bundle, is not what it should be.
    """
    config = read_config(folder)
    if out.exists():
        raise StorageError(f"expected no file at {out}, found one; choose another name")
    beside, left_out = _beside(config, folder, keys)
    where = database_of(config, folder)
    with _beside_of(out) as place:  # not in the hub's folder, whose disk may be full
        ledger = Path(place) / LEDGER
        if where.path is not None:
            copy_ledger(where.path, ledger)
            where, beside = database.file(ledger), {LEDGER: ledger, **beside}
        blobs = Blobs(folder / "blobs")
        files = {**beside, **{blob_name(name): blobs.path(name) for name in named_blobs(where, blobs)}}
        large = named_files(where, Blobs(folder / FOLDER))
        if bundles:
            files |= {name: Checked().path(source) for name, source in large.items()}
        parts = tuple(_part(name, path, advance) for name, path in files.items())
        away = "" if LEDGER in files else libpq(where)
        _write(out, Index(FORMAT, SCHEMA, config.fleet, time.time(), keys, parts, away), files)
    return {
        "out": str(out),
        "bytes": out.stat().st_size,
        "files": len(parts),
        "keys": keys,
        "left_out": left_out,
        "hardware": sorted({there.token for name in (f"{KEY}.key", SECRET) if (there := place_in(folder / name))}),
        "database": away,
        "bundle_files": len(large) if bundles else 0,
        "bundle_files_left_out": 0 if bundles else len(large),
        "bundle_bytes": sum(source.bytes for source in large.values()),
    }


@contextmanager
def _beside_of(out: Path) -> Iterator[str]:
    try:
        place = tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent)
    except OSError as error:
        raise StorageError(
            f"expected to write {out}, but {out.parent} cannot be written ({error.strerror}); choose another place"
        ) from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def libpq(where: Database) -> str:
    """A database's address as PostgreSQL's own programs take it; without a password."""
    return where.url.set(drivername="postgresql", password=None).render_as_string()


def copy_ledger(source: Path, target: Path) -> None:
    """A copy of a SQLite file as it is between two transactions, whoever writes to it.

    Raises:
        StorageError: it cannot be read or written.
    """
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)
            new.execute("PRAGMA journal_mode=DELETE")  # one file, not three
    except sqlite3.Error as error:
        raise StorageError(
            f"expected to copy the ledger {source}, the database said: {error}; free some space"
        ) from error


def named_blobs(where: Database, blobs: Blobs) -> list[str]:
    """The blobs that a ledger names, and those that they name."""
    ledger = Ledger(where, reading=where.path is None)
    try:
        made = [versions.read_made(row).version for row in ledger.versions()]
        names = {name for version in made for name in versions.blob_names(version)}
        names |= {name for version in made for name in remembering.blob_names(blobs, version.optimiser)}
        names |= {row["digest"] for row in ledger.all_updates() if row["dropped_at_s"] is None}
    finally:
        ledger.close()
    return sorted(names)


def blob_name(name: str) -> str:
    """What a blob is called in the archive."""
    return f"blobs/{name[:2]}/{name}"


def _beside(config: Config, folder: Path, keys: bool) -> tuple[dict[str, Path], list[str]]:
    """The files beside the ledger, and the names of those that are left out."""
    told, stored = config.broker, config.database
    chain, heirs = rotation.files(folder)
    open_ones = [FILE, f"{KEY}.pub", *chain, *config.trust.publishers, told.ca, told.certificate, CERTIFICATE]
    secret = [f"{KEY}.key", *heirs, SECRET, told.key, told.password_file, stored.password_file]
    names = [name for name in (*open_ones, *(secret if keys else ())) if name]
    inner = {name: folder / name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts}
    left_out = [name for name in (*names, *(() if keys else filter(None, secret))) if name not in inner]
    there = {name: path for name, path in inner.items() if path.exists()}
    return there, [name for name in left_out if name != SECRET or (folder / SECRET).exists()]


def _part(name: str, path: Path, advance: Advance) -> Part:
    try:
        part = Part(name, path.stat().st_size, file_digest(path, advance))
    except OSError as error:
        raise StorageError(
            f"expected to read {path} for the backup, but {error.strerror}; nothing was written"
        ) from error
    if name.startswith(("blobs/", f"{FOLDER}/")) and part.sha256 != Path(name).name:
        raise IntegrityError(
            f"expected a file with SHA-256 {Path(name).name} at {path}, found other bytes; nothing was written"
        )
    return part


def _write(out: Path, index: Index, files: dict[str, Path]) -> None:
    """Write the archive under a temporary name, then give it its own."""
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)  # mode 0600
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                text = json.dumps(plain(index), indent=1).encode()
                _add(archive, INDEX, len(text), io.BytesIO(text))
                for part in index.parts:
                    with files[part.name].open("rb") as source:
                        _add(archive, part.name, part.bytes, source)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
        sync_folder(out.parent)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise StorageError(f"expected to write {out}, stopped ({error.strerror}); free some space") from error


def _add(archive: tarfile.TarFile, name: str, size: int, source: BinaryIO) -> None:
    """A member that says nothing of who wrote it where: bytes, and that only its owner may read them."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    archive.addfile(member, source)


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """A file in blocks."""
    while block := file.read(BLOCK_BYTES):
        yield block
