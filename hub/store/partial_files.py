"""Updates that arrive in pieces, a file for each, so that a hub that starts again asks only for what it lacks.

`DEVICE/DIGEST.part`: a header of 64 bytes, a CRC-32 per chunk (0: not here), the chunks at their places, the body of
the `begin`. The file is sparse and nothing in it is ever synced: after a power cut a chunk may be gone although its
CRC is there, which the first look of the next start finds out, and the digest of the whole decides at the end. Chunks
are written before their CRC, each at its own place, so several processes may write one file.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from console.errors import BadData, StorageError
from hub.store.partials import Entry, Key, Partial, said, shape
from wire.chunks import chunk_count, fits
from wire.files import digest
from wire.messages import Begin, Chunk, decode, encode

MAGIC = b"EQPART02"
HEADER_BYTES = 64
_HEADER = struct.Struct("<8sQIII")  # magic, bytes, chunk_bytes, bytes and CRC of begin; behind it their CRC
_COMMITTED_AT = _HEADER.size + 4
_CRC_BYTES = 4
_ABSENT = bytes(_CRC_BYTES)
OPEN_FILES = 32
BEGINNING_S = 60.0


class FilePartials:
    """Partial updates below a folder of the hub."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._looked: set[Key] = set()  # whose chunks this process has compared with their CRC
        self._files: dict[Key, tuple[int, _Header]] = {}  # open, since opening costs more than writing a chunk

    def put(self, begin: Begin) -> None:
        """Expect an update.

        Raises:
            StorageError: its file cannot be written.
        """
        device = begin.sender.device
        path, known = self._path(device, begin.update), self.get(device, begin.update)
        if known is not None and said(known.begin) == said(begin):
            return
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            keep = known is not None and shape(known.begin) == shape(begin)
            flags = os.O_RDWR | os.O_CREAT | (0 if keep else os.O_TRUNC)
            with _opened(path, flags) as file:
                _write_begin(file, begin, committed=known is not None and keep and known.committed)
        except OSError as error:
            raise _full(path, error) from error
        self._shut((device, begin.update))
        self._looked.add((device, begin.update))

    def add(self, device: str, chunk: Chunk) -> bool:
        """Take a chunk.

        Raises:
            StorageError: it cannot be written.
        """
        key = (device, chunk.blob)
        try:
            file, found = self._opened_before(key)
            if found is None or not fits(chunk, found.bytes, found.chunk_bytes):
                return False
            crc_at = HEADER_BYTES + _CRC_BYTES * chunk.index
            if os.pread(file, _CRC_BYTES, crc_at) == _ABSENT:
                _write(file, chunk.data, found.data_at + chunk.index * found.chunk_bytes)
                _write(file, _crc(chunk.data), crc_at)
            return os.pread(file, 1, _COMMITTED_AT) == b"\1" and _ABSENT not in _index(file, found)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _full(self._path(*key), error) from error

    def expects(self, device: str, update: str) -> bool:
        """Whether somebody has announced an update."""
        return self._path(device, update).exists()

    def commit(self, device: str, update: str) -> None:
        """Note that all was sent."""
        with suppress(FileNotFoundError), _opened(self._path(device, update), os.O_RDWR) as file:
            if _header(file) is not None:
                _write(file, b"\1", _COMMITTED_AT)

    def get(self, device: str, update: str) -> Partial | None:
        """What is here of an update; a chunk that a power cut took is not."""
        try:
            with _opened(self._path(device, update), os.O_RDWR) as file:
                found = _header(file)
                begin = None if found is None else _begin(file, found)
                if found is None or begin is None:
                    return None
                if (device, update) not in self._looked:
                    _forget_lost(file, found)
                    self._looked.add((device, update))
                return Partial(begin, found.committed, tuple(crc != _ABSENT for crc in _index(file, found)))
        except FileNotFoundError:
            return None

    def join(self, device: str, update: str) -> bytes | None:
        """The bytes of an update whose chunks are all here, if they are what they should be."""
        with suppress(FileNotFoundError), _opened(self._path(device, update), os.O_RDWR) as file:
            found = _header(file)
            if found is None:
                return None
            data = os.pread(file, found.bytes, found.data_at)
            if digest(data) == update:
                return data
            _write(file, _ABSENT * found.total, HEADER_BYTES)
        return None

    def drop(self, device: str, update: str) -> None:
        """Forget an update."""
        self._looked.discard((device, update))
        self._shut((device, update))
        self._path(device, update).unlink(missing_ok=True)

    @contextmanager
    def alone(self, device: str, update: str) -> Iterator[bool]:
        """Hold the file's lock, which ends with the process that has it, however that ends."""
        path = self._path(device, update)
        try:
            handle = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            yield False
            return
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield path.exists() and path.stat().st_ino == os.fstat(handle).st_ino
        finally:
            os.close(handle)

    def entries(self) -> list[Entry]:
        """What the folder holds; what is no partial update any more is removed."""
        found = []
        for path in self.folder.glob("*/*.part"):
            partial = self.get(path.parent.name, path.stem)
            with suppress(FileNotFoundError):
                if partial is None:
                    if path.stat().st_mtime < time.time() - BEGINNING_S:  # not one that another worker begins just now
                        path.unlink()
                    continue
                begin, at_s = partial.begin, path.stat().st_mtime
                found.append(((path.parent.name, path.stem), begin.round, begin.bytes, at_s))
        return sorted(found, key=lambda entry: entry[3])

    def __del__(self) -> None:
        for key in list(self._files):
            self._shut(key)

    def _opened_before(self, key: Key) -> tuple[int, _Header | None]:
        """An open file, unless its name is gone: another worker may have dropped it."""
        if key in self._files:
            file, found = self._files[key]
            if os.fstat(file).st_nlink:
                return file, found
            self._shut(key)
        file = os.open(self._path(*key), os.O_RDWR)
        header = _header(file)
        if header is None:
            os.close(file)
            return -1, None
        self._files[key] = file, header
        if len(self._files) > OPEN_FILES:
            self._shut(next(iter(self._files)))
        return file, header

    def _shut(self, key: Key) -> None:
        if key in self._files:
            os.close(self._files.pop(key)[0])

    def _path(self, device: str, update: str) -> Path:
        """Where it lies; device and digest come from checked messages, whose patterns leave no way out of a folder."""
        return self.folder / device / f"{update}.part"


@dataclass(frozen=True)
class _Header:
    bytes: int
    chunk_bytes: int
    begin_bytes: int
    begin_crc: int
    committed: bool

    @property
    def total(self) -> int:
        return chunk_count(self.bytes, self.chunk_bytes)

    @property
    def data_at(self) -> int:
        return HEADER_BYTES + _CRC_BYTES * self.total


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def _header(file: int) -> _Header | None:
    data = os.pread(file, _COMMITTED_AT + 1, 0).ljust(_COMMITTED_AT + 1, b"\0")
    told, crc = data[: _HEADER.size], data[_HEADER.size : _COMMITTED_AT]
    if not told.startswith(MAGIC) or crc != _crc(told):
        return None
    _, size, chunk_bytes, begin_bytes, begin_crc = _HEADER.unpack(told)
    return _Header(size, chunk_bytes, begin_bytes, begin_crc, data[_COMMITTED_AT] == 1)


def _index(file: int, header: _Header) -> list[bytes]:
    size = _CRC_BYTES * header.total
    data = os.pread(file, size, HEADER_BYTES).ljust(size, b"\0")
    return [data[i : i + _CRC_BYTES] for i in range(0, len(data), _CRC_BYTES)]


def _begin(file: int, header: _Header) -> Begin | None:
    body = os.pread(file, header.begin_bytes, header.data_at + header.bytes)
    if zlib.crc32(body) != header.begin_crc:
        return None
    with suppress(BadData):
        return decode(body, Begin)
    return None


def _write_begin(file: int, begin: Begin, *, committed: bool) -> None:
    body = encode(begin)
    header = _Header(begin.bytes, begin.chunk_bytes, len(body), zlib.crc32(body), committed)
    told = _HEADER.pack(MAGIC, *astuple(header)[:-1])
    _write(file, body, header.data_at + header.bytes)
    _write(file, told + _crc(told) + bytes([committed]), 0)


def _forget_lost(file: int, header: _Header) -> None:
    for index, crc in enumerate(_index(file, header)):
        at = index * header.chunk_bytes
        length = min(header.chunk_bytes, header.bytes - at)
        if crc != _ABSENT and _crc(os.pread(file, length, header.data_at + at)) != crc:
            _write(file, _ABSENT, HEADER_BYTES + _CRC_BYTES * index)


def _crc(data: bytes) -> bytes:
    return (zlib.crc32(data) or 1).to_bytes(_CRC_BYTES, "little")


def _write(file: int, data: bytes, at: int) -> None:
    written = os.pwrite(file, data, at)
    while written < len(data):  # a disk that is nearly full takes a part, and then says so
        written += os.pwrite(file, data[written:], at + written)


def _full(path: Path, error: OSError) -> StorageError:
    return StorageError(f"expected to keep a part of an update in {path}, stopped ({error.strerror}); free some space")
