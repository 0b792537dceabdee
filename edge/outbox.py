"""Updates wait here, on disk, until the hub has given a receipt.

* `outbox/SHA256.payload`: the bytes.
* `outbox/SHA256.json`: what they are; written last, so an update without it never happened.
* `receipts.jsonl`: one line per receipt, for ever: update, job, kind, round, status, reason.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.errors import BadData, EdgequiltError
from edge.store import sweep
from wire.chunks import chunk_count
from wire.files import digest, file_digest, read_bytes, sync_folder, write_atomic
from wire.json_text import parse_json
from wire.messages import CHUNK_BYTES, UPDATE_LIMIT_BYTES, Chunk
from wire.record import DIGEST, at_least, matching, plain, read_record

log = logging.getLogger("edgequilt.agent")
REMEMBERED_JOBS = 4096


@dataclass(frozen=True)
class Update:
    """What a waiting update is; the fields of Begin without its sender."""

    update: str = field(metadata=matching(DIGEST))
    kind: str
    job: str
    round: int
    base: str
    bytes: int = field(metadata=at_least(1))
    samples: int
    metrics: dict[str, Any] = field(default_factory=dict)


class Outbox:
    """The state folder's part that receipts empty."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.receipts = folder / "outbox", folder / "receipts.jsonl"
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        self.updates = self._read()

    def put(self, payload: Path, *, kind: str, job: str, round_: int, base: str, samples: int, metrics: Any) -> Update:
        """Take a payload file over (it is moved) and keep it until its receipt.

        Raises:
            BadData: it is empty, or larger than an update may be.
            StorageError: the disk is full.
        """
        size = payload.stat().st_size
        if not 0 < size <= UPDATE_LIMIT_BYTES:
            raise BadData(f"expected an update of 1 to {UPDATE_LIMIT_BYTES} bytes, found {size}; lower the rank")
        update = Update(file_digest(payload), kind, job, round_, base, size, samples, metrics)
        payload.replace(self._payload(update.update))
        sync_folder(self.folder)
        write_atomic(self._record(update.update), json.dumps(plain(update)).encode())
        self.updates[update.update] = update
        return update

    def chunks(self, update: str, indexes: tuple[int, ...] | None) -> Iterator[Chunk]:
        """The chunks of an update, one at a time: all of them (None), or those asked for."""
        size = self.updates[update].bytes
        total = chunk_count(size)
        with self._payload(update).open("rb") as file:
            for index in range(total) if indexes is None else indexes:
                if index < total:
                    file.seek(index * CHUNK_BYTES)
                    yield Chunk(update, index, total, file.read(CHUNK_BYTES))

    def receipt(self, update: str, status: str, reason: str) -> None:
        """Log a receipt, then forget the update. Killed in between, it is sent again and counts once."""
        entry = self.updates[update]
        line = {k: getattr(entry, k) for k in ("update", "job", "kind", "round")}
        append_line(self.receipts, {**line, "status": status, "reason": reason})
        self._record(update).unlink(missing_ok=True)
        sync_folder(self.folder)
        self._payload(update).unlink(missing_ok=True)
        del self.updates[update]

    def receipted_jobs(self) -> list[str]:
        """The jobs whose update has a receipt, the latest ones."""
        return [str(line.get("job")) for line in read_lines(self.receipts)][-REMEMBERED_JOBS:]

    def _read(self) -> dict[str, Update]:
        updates = {}
        for path in sorted(self.folder.glob("*.json"), key=lambda p: p.stat().st_mtime):
            try:
                update = read_record(Update, parse_json(read_bytes(path, "a waiting update"), finite=False), str(path))
                whole = digest(read_bytes(self._payload(update.update), "its payload")) == update.update
            except (ValueError, EdgequiltError):
                whole = False
            if whole:
                updates[update.update] = update
            else:
                log.warning("update %s is not whole and is dropped; its job can be done again", path.stem[:12])
                path.unlink(missing_ok=True)
        for payload in self.folder.glob("*.payload"):
            if payload.stem not in updates:
                payload.unlink()
        return updates

    def _payload(self, update: str) -> Path:
        return self.folder / f"{update}.payload"

    def _record(self, update: str) -> Path:
        return self.folder / f"{update}.json"


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append a JSON line and wait until it is on disk; a line that a power cut tore is closed first."""
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        torn = False
        if size:
            file.seek(size - 1)
            torn = file.read(1) != b"\n"
        file.write((b"\n" if torn else b"") + json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file of JSON lines; torn ones are left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                found = parse_json(line, finite=False)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found
