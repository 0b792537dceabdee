"""Updates wait here, on disk, until the hub has given a receipt.

* `outbox/SHA256.update` (`edge.waiting`): the bytes, and what they are.
* `outbox/records-N.sqlite` (`edge.records`): a row per update, written after its file, so a file without a row never
  happened; and the latest receipts. N is 1 until a database is damaged. Then the next one takes over, with a higher
  N: its rows are made from the files, and from the receipts that can still be read.

Room: an update is never dropped. Old receipts are, the oldest first. Where the updates that wait leave no room for
another one, the agent takes no further job that would make one, and says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from console.errors import BadData, EdgequiltError
from console.table import mib
from edge.config import OUTBOX_BYTES
from edge.records import Damaged, Records, Row, salvage
from edge.store import sweep
from edge.waiting import Update, describe, described, is_whole, strip
from wire.chunks import chunk_count
from wire.files import file_digest, read_bytes, sync_folder
from wire.json_text import parse_json
from wire.messages import CHUNK_BYTES, UPDATE_LIMIT_BYTES, Chunk
from wire.record import plain, read_record

log = logging.getLogger("edgequilt.agent")
RECEIPTS, FEWEST_RECEIPTS = 4096, 64
RECEIPT_BYTES = 512  # about what one takes
FOLDER = "outbox"
_NAME = "records-{}.sqlite"


class Outbox:
    """The state folder's part that receipts empty.

    Args:
        folder: the state folder.
        quota_bytes: what waits and the receipts may take; only an update that turned out larger than those of its
            kind before goes beyond it.

    Raises:
        StorageError: the folder cannot be used.
    """

    def __init__(self, folder: Path, quota_bytes: int = OUTBOX_BYTES) -> None:
        self.folder, self.quota_bytes = folder / FOLDER, quota_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        self._records = _opened(self.folder)
        _take_over(folder, self._records)
        self.updates = self._read()

    def put(self, payload: Path, *, kind: str, job: str, round_: int, base: str, samples: int, metrics: Any) -> Update:
        """Take a payload file over (it is moved) and keep it until its receipt.

        Raises:
            BadData: it is empty, or larger than an update may be.
            StorageError: the disk is full; the payload is where it was.
        """
        size = payload.stat().st_size
        if not 0 < size <= UPDATE_LIMIT_BYTES:
            raise BadData(f"expected an update of 1 to {UPDATE_LIMIT_BYTES} bytes, found {size}; lower the rank")
        update = Update(file_digest(payload), kind, job, round_, base, size, samples, metrics)
        file = self._payload(update.update)
        payload.replace(file)
        try:
            describe(file, update)
            sync_folder(self.folder)
            self._records.put(update.update, plain(update))
        except BaseException:
            if update.update not in self.updates:
                strip(file, update)
                file.replace(payload)
            raise
        self.updates[update.update] = update
        return update

    def no_room(self, kind: str) -> str:
        """Why no further update of a kind fits; empty if one does, as far as its size is known from those before."""
        waits = sum(update.bytes for update in self.updates.values())
        before = [update.bytes for update in self.updates.values() if update.kind == kind]
        needs = max([1, self._records.largest(kind), *before])
        if not waits or waits + needs <= self.quota_bytes:
            return ""
        return (
            f"expected room for another update of {mib(needs)} in the outbox ({mib(self.quota_bytes)}), found "
            f"{len(self.updates)} of {mib(waits)} without a receipt; see that the hub runs, or raise [agent] outbox"
        )

    def chunks(self, update: str, indexes: tuple[int, ...] | None) -> Iterator[Chunk]:
        """The chunks of an update, one at a time: all of them (None), or those asked for."""
        size = self.updates[update].bytes
        total = chunk_count(size)
        with self._payload(update).open("rb") as file:
            for index in range(total) if indexes is None else indexes:
                if index < total:
                    at = file.seek(index * CHUNK_BYTES)
                    yield Chunk(update, index, total, file.read(min(CHUNK_BYTES, size - at)))

    def receipt(self, update: str, status: str, reason: str) -> None:
        """Log a receipt and forget the update, in one step.

        Raises:
            StorageError: the disk is full; the update waits as before.
        """
        entry = self.updates[update]
        row = {k: getattr(entry, k) for k in ("job", "kind", "round", "bytes")}
        left = self.quota_bytes - sum(other.bytes for other in self.updates.values()) + entry.bytes
        keep = min(RECEIPTS, max(FEWEST_RECEIPTS, left // RECEIPT_BYTES))
        self._records.receipt({"digest": update, **row, "status": status, "reason": reason}, keep)
        del self.updates[update]
        self._payload(update).unlink(missing_ok=True)

    def receipted_jobs(self) -> list[str]:
        """The jobs whose update has a receipt, the latest ones."""
        return [str(row["job"]) for row in self._records.receipts()]

    def close(self) -> None:
        """Close the database."""
        self._records.close()

    def _read(self) -> dict[str, Update]:
        updates = {}
        for name, record in self._records.waiting():
            try:
                update: Update | None = read_record(Update, record, f"update {name[:12]}")
            except BadData:
                update = None
            if update is not None and update.update == name and is_whole(self._payload(name), update):
                updates[name] = update
            else:
                log.warning("update %s is not whole and is dropped; its job can be done again", name[:12])
                self._records.drop(name)
        for payload in self.folder.glob("*.update"):
            if payload.stem not in updates:
                payload.unlink()
        return updates

    def _payload(self, update: str) -> Path:
        return self.folder / f"{update}.update"


def read_receipts(state: Path) -> list[Row]:
    """The receipts that a state folder holds, also while its agent runs; none where there was no agent yet."""
    path = _newest(state / FOLDER)
    if not path.exists():
        return []
    records = Records(path)
    try:
        return records.receipts()
    finally:
        records.close()


def _newest(folder: Path) -> Path:
    """The database in use."""
    found = [int(path.stem[8:]) for path in folder.glob("records-*.sqlite") if path.stem[8:].isdigit()]
    return folder / _NAME.format(max(found, default=1))


def _opened(folder: Path) -> Records:
    """The database, or one with what could be read of it where it is damaged."""
    path = _newest(folder)
    try:
        return Records(path)
    except Damaged as damage:
        number = int(path.stem[8:])
        for older in folder.glob("records-*.sqlite*"):  # one that is set aside is enough
            if not older.name.startswith(path.name):
                older.unlink()
        new = folder / _NAME.format(number + 1)
        found = [update for update in map(described, folder.glob("*.update")) if update is not None]
        receipts = salvage(path, new, [(update.update, plain(update)) for update in found])
        log.error(  # noqa: TRY400  # one line, no traceback
            "%s is damaged (%s) and is set aside: no update is lost (%d wait), %d receipts could be read",
            *(path, damage, len(found), receipts),
        )
        return Records(new)


def _take_over(state: Path, records: Records) -> None:
    """What an agent from before SQLite has left: a JSON file per update beside its payload, and a line per receipt."""
    folder, log_file, waiting = state / FOLDER, state / "receipts.jsonl", list[Update]()
    old = sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime)
    for path in old:
        with suppress(ValueError, EdgequiltError):
            waiting.append(
                read_record(Update, parse_json(read_bytes(path, "a waiting update"), finite=False), str(path))
            )
    lines = list(read_lines(log_file))[-RECEIPTS:]
    if old or lines:
        rows = [{**line, "digest": line.get("update", "")} for line in lines]
        records.adopt([(update.update, plain(update)) for update in waiting], rows)
    for update in waiting:
        payload = folder / f"{update.update}.payload"
        if payload.exists():
            describe(payload, update)
            payload.replace(folder / f"{update.update}.update")
    for path in [*old, *folder.glob("*.payload"), log_file]:
        path.unlink(missing_ok=True)


def read_lines(path: Path) -> Iterator[Row]:
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
