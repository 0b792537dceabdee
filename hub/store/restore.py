"""A hub's folder out of a backup: every byte checked, whole or not there, and a new page in the ledger.

Devices may have seen more than the backup knows: releases of a higher sequence, jobs of rounds that it has not had.
Sequences and round numbers of a restored ledger therefore go on from the clock (seconds since 1970, minutes since
2020), far above what any ledger reaches by counting: no device takes an older word for a newer one, or a new job for
one that it has done. What is in use is released again, so that boards with a lost version come back to it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from console.errors import BadData, HubError, IntegrityError, StorageError, UsageError
from hub.config import FILE, read_config
from hub.migrations import schema_of
from hub.rounds.conductor import put_release
from hub.store import database
from hub.store import schema as t
from hub.store.backup import FORMAT, INDEX, LEDGER, SCHEMA, Advance, Index, Part, blob_name, blocks, libpq, named_blobs
from hub.store.blobs import Blobs
from hub.store.bundle_files import FOLDER, named_files
from hub.store.database import Database
from hub.store.ledger import Ledger
from hub.store.registry import KEY
from hub.store.writes import put, put_row
from wire.files import inside, sync_folder
from wire.json_text import parse_json
from wire.record import read_record

INDEX_LIMIT_BYTES = 64 << 20
NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,3}"
EPOCH_S = 1577836800  # 2020-01-01


def restore(
    file: Path, folder: Path, *, advance: Advance = lambda n: None, clock: Callable[[], float] = time.time
) -> dict[str, Any]:
    """Make a hub's folder of a backup.

    Args:
        file: what `back_up` wrote.
        folder: must not be there, or be empty.
        advance: told the bytes of each block.
        clock: seconds since 1970.

    Raises:
        UsageError: the folder holds something.
        BadData: the file is not a backup, or names a file that must not be written.
        IntegrityError: a file in it is not what its index says.
        HubError: the ledger is in a database, which does not hold it, or on which a hub runs.
        StorageError: something cannot be read or written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"expected no folder or an empty one at {folder}, found {_holds(folder)}; choose another place"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        index = unpack(file, place, advance)
        where = _database(index, place)
        large = named_files(where, Blobs(place / FOLDER))
        found = turn_page(Ledger(where), index, clock())
        found["bundle_files_missing"] = sum(1 for name in large if not (place / name).exists())
        if folder.exists():
            folder.rmdir()
        place.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise StorageError(f"expected to write {folder}, stopped ({error}); free some space") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return {"hub": str(folder), "fleet": index.fleet, "key": (folder / f"{KEY}.key").exists(), **found}


def unpack(file: Path, place: Path, advance: Advance = lambda n: None) -> Index:
    """Write the files of a backup below an empty folder; its index.

    Raises:
        BadData, IntegrityError: as in `restore`.
    """
    try:
        with tarfile.open(file, mode="r:") as archive:
            index = _index(archive, file)
            wanted = {part.name: part for part in index.parts}
            while (member := archive.next()) is not None:
                part = wanted.pop(member.name, None)
                if part is None or not member.isreg() or member.issparse() or member.size != part.bytes:
                    raise BadData(
                        f"expected only the files of its index in {file}, found {member.name[:200]!r}; do not use it"
                    )
                _extract(archive, member, part, place, advance)
    except (tarfile.TarError, EOFError) as error:
        raise BadData(f"expected a backup in {file}, found something else ({error}); take another file") from error
    except FileNotFoundError as error:
        raise StorageError(f"expected a backup at {file}, found no file; check the path") from error
    if wanted:
        raise IntegrityError(
            f"expected {len(index.parts)} files in {file}, found {len(wanted)} of them missing; it is cut off"
        )
    return index


def _index(archive: tarfile.TarFile, file: Path) -> Index:
    # Python 3.10's `next` would seek to before the beginning of an archive that holds nothing
    holds = archive.firstmember is not None  # type: ignore[attr-defined]  # typeshed leaves it out
    member = archive.next() if holds else None
    source = archive.extractfile(member) if member is not None and member.name == INDEX and member.isreg() else None
    if member is None or source is None or member.size > INDEX_LIMIT_BYTES:
        raise BadData(f"expected {INDEX} first in {file}, found something else; take a file that `hub backup` wrote")
    try:
        index = read_record(Index, parse_json(source.read()), f"{INDEX} in {file}")
    except ValueError as error:
        raise BadData(f"expected {INDEX} as JSON in {file}, found something else ({error}); do not use it") from error
    if (index.format, index.schema) != (FORMAT, SCHEMA):
        raise BadData(f"expected a backup of schema {SCHEMA} in {file}, found {index.schema}; update edgequilt")
    names = [part.name for part in index.parts]
    strange = ", ".join(repr(part.name[:200]) for part in index.parts if not _is_ours(part))
    wanted = {FILE} if index.database else {FILE, LEDGER}
    if strange or len(set(names)) < len(names) or not wanted <= set(names):
        found = strange[:1000] or "too few or twice the same"
        raise BadData(f"expected names of a hub's files in {file}, found {found}; do not use it")
    return index


def _is_ours(part: Part) -> bool:
    """Whether a file may have such a name: below the folder, not hidden, and a blob is called as its bytes are."""
    return re.fullmatch(NAME, part.name) is not None and (
        not part.name.startswith(("blobs/", f"{FOLDER}/"))
        or part.name in (f"{root}/{part.sha256[:2]}/{part.sha256}" for root in ("blobs", FOLDER))
    )


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, part: Part, place: Path, advance: Advance) -> None:
    source, sha = archive.extractfile(member), hashlib.sha256()
    path = inside(place, part.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as out:
        for block in blocks(source) if source is not None else ():  # type: ignore[arg-type]  # typeshed says IO[bytes]
            out.write(block)
            sha.update(block)
            advance(len(block))
        out.flush()
        os.fsync(out.fileno())
    if sha.hexdigest() != part.sha256:
        raise IntegrityError(
            f"expected {part.name} with SHA-256 {part.sha256[:12]}, found other bytes; take another backup"
        )


def _database(index: Index, place: Path) -> Database:
    """Where the ledger is: in the archive, or loaded into its database, with no more blobs than the archive has."""
    if not index.database:
        return database.file(place / LEDGER)
    told = read_config(place).database
    password = place / told.password_file if told.password_file else None
    where = database.server(told.url, password if password is not None and password.exists() else None)
    load = f"load the dump of before the backup first: pg_restore --dbname '{libpq(where)}' FILE"
    engine = where.engine(reading=True)
    try:
        with engine.connect() as connection:
            if schema_of(connection) == 0:
                raise HubError(f"expected the ledger in {where}, found an empty database; {load}")
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise HubError(f"expected the ledger in {where}, the database said: {reason}; {where.mend}") from error
    finally:
        engine.dispose()
    Ledger(where).close()  # brings an older dump up to date, and is refused where a hub runs
    missing = [name for name in named_blobs(where, Blobs(place / "blobs")) if not (place / blob_name(name)).exists()]
    if missing:
        raise IntegrityError(
            f"expected a dump from before the backup in {where}, found {len(missing)} blobs named that the backup "
            f"lacks, {missing[0][:12]} first; {load}"
        )
    return where


def turn_page(ledger: Ledger, index: Index, now_s: float) -> dict[str, Any]:
    """Let a restored ledger go on where no other ledger of this fleet has been; closes it."""
    try:
        last, releases = ledger.last_round(), [ledger.release(row["model"]) for row in ledger.models()]
        floor = max(last, int(now_s - EPOCH_S) // 60)
        with ledger.transaction() as tx:
            put(tx, "round_floor", str(floor))
            put(tx, "sequence_floor", str(int(now_s)))
            for release in releases:
                if release is not None:
                    put_release(tx, release["digest"], "restored from a backup", now_s)
            taken = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(index.at_s))
            text = f"restored from a backup of {taken} UTC"
            put_row(tx, t.events, {"at_s": now_s, "round": None, "device": None, "text": text})
        return {
            "devices": len(ledger.devices()),
            "versions": len(ledger.versions()),
            "released": next((row["version"] for row in releases if row is not None), None),
            "next_round": floor + 1,
        }
    finally:
        ledger.close()


def _holds(folder: Path) -> str:
    return "a hub" if (folder / FILE).exists() else "something"
