"""The files of bundles and of releases of the agent that a ledger names, for backups: called as their bytes are."""

from __future__ import annotations

from pathlib import Path

from hub.bundles.keeping import Source, sources
from hub.store.blobs import Blobs
from hub.store.database import Database
from hub.store.ledger import Ledger
from wire.manifest import parse_manifest

FOLDER = "bundles"


def named_files(where: Database, kept: Blobs) -> dict[str, Source]:
    """By the name of each in an archive.

    Args:
        where: the ledger.
        kept: where the hub keeps such files; those of bundles that were added without a copy lie elsewhere.
    """
    ledger = Ledger(where, reading=where.path is None)
    try:
        found: dict[str, Source] = {}
        for row in ledger.bundles():
            files = parse_manifest(bytes(row["manifest"]), "a bundle in the ledger").files
            found |= sources(kept, Path(row["folder"]), [(file.path, file.sha256, file.bytes) for file in files])
        for row in ledger.programs():
            sha256 = row["stream_sha256"]
            found[sha256] = Source(sha256, row["stream_bytes"], (kept.path(sha256),))
    finally:
        ledger.close()
    return {f"{FOLDER}/{sha[:2]}/{sha}": found[sha] for sha in sorted(found)}
