"""Releases of the agent that a hub takes in: checked as a board would, and kept beside the files of bundles."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from console.errors import IntegrityError
from hub.bundles.keeping import keep_file
from hub.config import publishers
from hub.store import schema as t
from hub.store.registry import Home
from hub.store.writes import put_row
from wire.envelope import check_detached
from wire.files import digest, file_digest, read_bytes
from wire.packed import LIMIT_BYTES, MANIFEST, SIGNATURE, STREAM, parse


def add_program(home: Home, folder: Path) -> dict[str, Any]:
    """Check a packed release and take it in; its folder may go away.

    Args:
        home: the hub's folder, opened.
        folder: as `edgequilt release` writes it.

    Raises:
        StorageError: it cannot be read, or kept.
        SignatureError: it is not signed by a publisher that hub.toml trusts.
        BadData: the manifest contradicts itself.
        IntegrityError: its stream is another one.
    """
    body = read_bytes(folder / MANIFEST, "the manifest of a release", LIMIT_BYTES)
    signature = read_bytes(folder / SIGNATURE, "a signature", 4096)
    what = f"the release in {folder}"
    signer = check_detached(signature, body, "publisher", publishers(home.config, home.folder), what)
    packed, stream = parse(body, what), folder / STREAM
    size = stream.stat().st_size if stream.is_file() else -1
    if size != packed.stream_bytes or file_digest(stream) != packed.stream_sha256:
        raise IntegrityError(f"expected {stream} as the manifest of {what} says, found other bytes; make it again")
    keep_file(stream, home.bundles.path(packed.stream_sha256), packed.stream_sha256, size)
    name = digest(body)
    row = {"version": packed.version, "system": packed.system, "bytes": packed.bytes}
    row |= {"stream_sha256": packed.stream_sha256, "stream_bytes": size}
    with home.ledger.transaction() as tx:
        if home.ledger.program(name) is None:
            kept = {**row, "sha256": name, "manifest": body, "signature": signature, "added_at_s": time.time()}
            put_row(tx, t.programs, kept)
    return {**row, "release": name, "signer": signer.name}
