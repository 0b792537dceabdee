"""Rows of one size in one file: bounded, whole or not there, and nothing that is older than its key.

The file is a header of 4 KiB, then groups of 256 slots: the records of a group, then its rows. A record is the key of
its row and a digest of both. A row is written before its record, and counts only while the digest is right: so a kill,
a power cut, a bad sector or a second process can cost rows, and never change one.

Passes over data are cyclic, and there least recently used is the worst to drop: every row goes just before it is wanted
again. So what is in stays in, and a full slab admits nothing more, which wears no flash card either. Only what no
pass has asked for since the slab was opened makes room, for a row that was turned away once already.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path

MAGIC = b"edgequilt rows 1\n"
HEADER_BYTES = 4096
GROUP = 256
KEY_BYTES, DIGEST_BYTES = 32, 16
RECORD_BYTES = KEY_BYTES + DIGEST_BYTES
REMEMBERED = 1 << 16  # keys that were turned away
FREE = bytes(KEY_BYTES)


class Slab:
    """A file of rows. Whatever goes wrong with it costs time only: it says so in `said`, and finds nothing.

    Attributes:
        said: a sentence per thing that went wrong.
        rows: rows that are in.
        hits, misses: what `get` found, and did not.
        torn: rows that were not what their record says.
        owned: whether this process is the one that may write.
    """

    def __init__(self, path: Path, quota_bytes: int) -> None:
        self.path, self.quota_bytes = path, quota_bytes
        self.said: list[str] = []
        self.hits = self.misses = self.torn = 0
        self.row_bytes = self.capacity = 0
        self._admits = self.owned = False
        self._forget()
        self._handle = self._open()

    @property
    def rows(self) -> int:
        """How many are in."""
        return len(self._slots)

    @property
    def file_bytes(self) -> int:
        """Length of the file."""
        return 0 if self._handle is None else os.fstat(self._handle).st_size

    def label(self) -> str:
        """What the rows on disk were begun with; empty where there are none."""
        head = b"" if self._handle is None else os.pread(self._handle, HEADER_BYTES, 0)
        body, _, digest = head.removeprefix(MAGIC).rstrip(b"\0").rpartition(b"\n")
        whole = head.startswith(MAGIC) and digest == _digest(body).hex().encode()
        return body.decode(errors="replace") if whole else ""

    def begin(self, label: str, row_bytes: int) -> bool:
        """Take up the rows that were begun with this label, or begin anew; False where the file cannot be used.

        Args:
            label: says what rows are, at most 4000 bytes.
            row_bytes: of each.
        """
        self._forget()
        self.row_bytes, self.capacity = row_bytes, _capacity(self.quota_bytes, row_bytes)
        if self._handle is None:
            return False
        if self.capacity < 1:
            self.said.append(f"the cache's {self.quota_bytes} bytes hold no row of {row_bytes}: nothing is kept")
            return False
        if self.label() == label:
            self._read_records()
            return True
        if not self._admits:
            self.said.append(f"another process has {self.path} for other rows: nothing is kept")
            return False
        return self._write_header(label.encode())

    def get(self, key: bytes) -> bytes | None:
        """The row of a key, if it is in and whole."""
        slot = self._slots.get(key)
        row = None if slot is None else self._row(key, slot)
        self.hits, self.misses = self.hits + (row is not None), self.misses + (row is None)
        return row

    def put(self, key: bytes, row: bytes) -> bool:
        """Keep a row; False where there is no room for it."""
        slot = self._place(key) if self._admits and key not in self._slots else None
        if slot is None:
            return False
        record = key + _digest(key, row)
        if not (self._write(row, self._row_at(slot)) and self._write(record, self._record_at(slot))):
            self._gaps.append(slot)
            return False
        self._slots[key] = slot
        return True

    def close(self) -> None:
        """Let go of the file."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle, self._admits = None, False
        self._forget()

    def _forget(self) -> None:
        self._slots: dict[bytes, int] = {}
        self._unasked: dict[int, bytes] = {}  # slots that were there already and that nobody has asked for
        self._gaps: list[int] = []
        self._end = 0  # slots from here on were never written
        self._refused: set[bytes] = set()

    def _open(self) -> int | None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            self.said.append(f"{self.path} cannot be written ({error.strerror}): nothing is kept")
            return None
        with contextlib.suppress(OSError):  # of another user
            os.fchmod(handle, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._admits = self.owned = True
        except OSError:
            self.said.append(f"another process keeps rows in {self.path}: this one only reads there")
        return handle

    def _write_header(self, label: bytes) -> bool:
        head = MAGIC + label + b"\n" + _digest(label).hex().encode()
        if len(head) > HEADER_BYTES:
            raise ValueError(f"a label of {len(label)} bytes is too long")
        try:
            os.ftruncate(self._handle or 0, 0)
        except OSError as error:
            return self._stop(error)
        return self._write(head.ljust(HEADER_BYTES, b"\0"), 0)

    def _read_records(self) -> None:
        handle = self._handle or 0
        if self._admits and self.file_bytes > self.quota_bytes:
            self._shrink(handle)
        for start in range(0, self.capacity, GROUP):
            records = os.pread(handle, min(GROUP, self.capacity - start) * RECORD_BYTES, self._record_at(start))
            for k in range(len(records) // RECORD_BYTES):
                key = records[k * RECORD_BYTES :][:KEY_BYTES]
                if key != FREE:
                    self._slots[key] = start + k
            if not records:
                break
        self._unasked = {slot: key for key, slot in self._slots.items()}
        self._end = max(self._unasked, default=-1) + 1
        self._gaps = [slot for slot in range(self._end) if slot not in self._unasked]

    def _shrink(self, handle: int) -> None:
        """Cut off what is beyond the quota, and the records of those rows."""
        with contextlib.suppress(OSError):
            os.ftruncate(handle, self.quota_bytes)
        over = -self.capacity % GROUP
        if over:
            self._write(bytes(over * RECORD_BYTES), self._record_at(self.capacity))

    def _row(self, key: bytes, slot: int) -> bytes | None:
        handle = self._handle or 0
        try:
            row = os.pread(handle, self.row_bytes, self._row_at(slot))
            record = os.pread(handle, RECORD_BYTES, self._record_at(slot))
        except OSError:  # a sector that cannot be read
            row = record = b""
        self._unasked.pop(slot, None)
        if record == key + _digest(key, row) and len(row) == self.row_bytes:
            return row
        self.torn += 1
        del self._slots[key]
        self._gaps.append(slot)
        return None

    def _place(self, key: bytes) -> int | None:
        """A slot for a new row: a free one, else one that nobody asks for if the row is wanted again and again."""
        if self._gaps:
            return self._gaps.pop()
        if self._end < self.capacity:
            self._end += 1
            return self._end - 1
        if key in self._refused and self._unasked:
            slot, old = self._unasked.popitem()
            del self._slots[old]
            return slot
        if len(self._refused) < REMEMBERED:
            self._refused.add(key)
        return None

    def _write(self, data: bytes, at: int) -> bool:
        try:
            while data:
                done = os.pwrite(self._handle or 0, data, at)
                data, at = data[done:], at + done
        except OSError as error:
            return self._stop(error)
        return True

    def _stop(self, error: OSError) -> bool:
        """Admit nothing more; what is in stays."""
        self._admits = False
        self.said.append(f"{self.path} takes no more rows ({error.strerror}): {self.rows} are kept, others made again")
        return False

    def _record_at(self, slot: int) -> int:
        group, k = divmod(slot, GROUP)
        return HEADER_BYTES + group * GROUP * (RECORD_BYTES + self.row_bytes) + k * RECORD_BYTES

    def _row_at(self, slot: int) -> int:
        group, k = divmod(slot, GROUP)
        start = HEADER_BYTES + group * GROUP * (RECORD_BYTES + self.row_bytes) + GROUP * RECORD_BYTES
        return start + k * self.row_bytes


def _capacity(quota_bytes: int, row_bytes: int) -> int:
    """Slots of a file that is no longer than the quota.

    >>> _capacity(4096 + 256 * 48 + 3 * 100, 100), _capacity(4096 + 256 * 48 + 99, 100)
    (3, 0)
    """
    groups, rest = divmod(max(0, quota_bytes - HEADER_BYTES), GROUP * (RECORD_BYTES + row_bytes))
    return groups * GROUP + max(0, rest - GROUP * RECORD_BYTES) // row_bytes


def _digest(*parts: bytes) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.digest()[:DIGEST_BYTES]
