"""An image as a sparse file that may be changed: decompressed in one stream, hashed on its way, never past a limit."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from console.errors import BadData, IntegrityError, MissingDependency, StorageError
from devices.flash.limit import Limit
from devices.flash.xz import xz_size

CHUNK_BYTES = 1 << 20
SECTOR = 512
# of the standard library, for damaged files; RuntimeError: an archive with a password
DAMAGED: tuple[type[Exception], ...] = (
    *(lzma.LZMAError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile, EOFError),
    *(ValueError, NotImplementedError, RuntimeError),
)
MAGICS = {b"\xfd7zXZ\x00": "xz", b"\x1f\x8b": "gz", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zst", b"PK\x03\x04": "zip"}


@dataclass(frozen=True)
class Staged:
    """An image, ready to be changed.

    Attributes:
        path: the sparse file.
        sha256: of the file that was given, compressed as it was.
        size_bytes: of the image.
    """

    path: Path
    sha256: str
    size_bytes: int


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is read; what a decompressor leaves unread is read at the end."""

    def __init__(self, file: IO[bytes], advance: Callable[[int], None]) -> None:
        self._file, self._advance, self.sum = file, advance, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.sum.update(data)
        self._advance(len(data))
        return len(data)

    def rest(self) -> str:
        """The digest of all of it."""
        while self.read(CHUNK_BYTES):
            pass
        return self.sum.hexdigest()


class _Frames(io.RawIOBase):
    """Frames of zstandard, one after the other; the library's own reader takes half a frame for a whole one."""

    def __init__(self, file: IO[bytes], new: Callable[[], Any]) -> None:
        self._file, self._new, self._frame, self._made = file, new, None, b""
        self._left = b""  # what came behind the end of a frame

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._made:
            data = self._left or self._file.read(CHUNK_BYTES)
            if not data:
                if self._frame is not None:
                    raise EOFError("it ends within a frame")
                return 0
            frame = self._frame or self._new()
            self._made, self._left = frame.decompress(data), frame.unused_data
            self._frame = None if frame.eof else frame
        size = min(len(buffer), len(self._made))
        buffer[:size], self._made = self._made[:size], self._made[size:]
        return size


def format_of(image: Path) -> str:
    """`xz`, `gz`, `bz2`, `zst`, `zip`, or nothing: by its first bytes, whatever it is called.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        with image.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise StorageError(f"expected an image at {image}, found none ({error.strerror}); say where it is") from error
    return next((name for magic, name in MAGICS.items() if head.startswith(magic)), "")


def size_of(image: Path) -> int | None:
    """Bytes of the image once it is decompressed, where its file says so: raw, .zip and .xz do.

    Raises:
        StorageError: it cannot be read.
        IntegrityError, BadData: it is an archive that is damaged, or holds no image or several.
    """
    kind = format_of(image)
    if kind == "":
        return image.stat().st_size
    if kind == "zip":
        try:
            with zipfile.ZipFile(image) as archive:
                return _only(archive).file_size
        except DAMAGED as error:
            raise IntegrityError(
                f"expected a whole archive in {image.name}, found a damaged one; fetch it again"
            ) from error
    return xz_size(image) if kind == "xz" else None


def head(image: Path, size_bytes: int) -> bytes:
    """The first bytes of the image once it is decompressed; fewer where there are no more.

    Raises:
        IntegrityError, BadData, MissingDependency, StorageError: see `stage`.
    """
    with _reading(image), image.open("rb") as file, ExitStack() as closing:
        source = _opened(format_of(image), image, _Hashed(file, lambda size: None), closing)
        found = b""
        while len(found) < size_bytes and (more := source.read(size_bytes - len(found))):
            found += more
        return found


def stage(
    image: Path,
    to: Path,
    limit: Limit,
    advance: Callable[[int], None] = lambda size: None,
    sha256: str | None = None,
) -> Staged:
    """Decompress an image into a new sparse file.

    Args:
        image: raw, or compressed by xz, gzip, bzip2, zstandard or zip.
        to: the file to make.
        limit: most that it may become: a few bytes can become very many.
        advance: told of bytes that were read of `image`.
        sha256: what the digest of `image` has to be.

    Raises:
        DoesNotFit: it is larger than the limit.
        IntegrityError: it is damaged, or not the one with that digest.
        MissingDependency: zstandard is not installed.
        StorageError: it cannot be read, or there is no room for it.
    """
    kind = format_of(image)
    with _reading(image, to), image.open("rb") as file, to.open("xb") as out, ExitStack() as closing:
        hashed = _Hashed(file, advance)
        size = _copy(_opened(kind, image, hashed, closing), out, limit)
        found = _digest(image, advance) if kind == "zip" else hashed.rest()
    if sha256 is not None and found != sha256.lower():
        raise IntegrityError(f"expected {image.name} with SHA-256 {sha256}, found {found}; fetch it again")
    return Staged(to, found, size)


@contextmanager
def _reading(image: Path, to: Path | None = None) -> Iterator[None]:
    """What decompressors raise, as sentences."""
    try:
        yield
    except _damage() as error:
        raise IntegrityError(
            f"expected a whole image in {image.name}, found a damaged one ({error}); fetch it again"
        ) from error
    except OSError as error:
        what = f"read {image.name}" if to is None else f"unpack {image.name} to {to.parent}"
        raise StorageError(f"expected to {what}, stopped: {error.strerror or error}") from error


def _opened(kind: str, image: Path, hashed: _Hashed, closing: ExitStack) -> IO[bytes]:
    if kind == "zip":
        archive = closing.enter_context(zipfile.ZipFile(image))
        return closing.enter_context(archive.open(_only(archive)))
    buffered = io.BufferedReader(hashed, CHUNK_BYTES)
    if kind == "zst":
        try:
            import zstandard
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"{image.name} needs 'zstandard': pip install zstandard, or unpack it first"
            ) from error
        return io.BufferedReader(_Frames(buffered, zstandard.ZstdDecompressor().decompressobj), CHUNK_BYTES)
    openers: dict[str, Any] = {"xz": lzma.open, "gz": gzip.open, "bz2": bz2.open}
    return closing.enter_context(openers[kind](buffered)) if kind else buffered


def _damage() -> tuple[type[Exception], ...]:
    """The same, and what zstandard raises, where that was needed."""
    library = sys.modules.get("zstandard")
    return DAMAGED if library is None else (*DAMAGED, library.ZstdError)


def _only(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    images = [info for info in archive.infolist() if info.filename.endswith((".img", ".raw", ".bin"))]
    if len(images) != 1:
        raise BadData(f"expected one image in the archive, found {len(images)}; unpack it and give the image")
    return images[0]


def _digest(image: Path, advance: Callable[[int], None]) -> str:
    """Of an archive, which is not read in one stream."""
    from wire.files import file_digest

    return file_digest(image, advance)


def _copy(source: IO[bytes], out: IO[bytes], limit: Limit) -> int:
    size = 0
    for chunk in _chunks(source):
        size += len(chunk)
        limit.require(size, so_far=True)
        if chunk.count(0) == len(chunk):
            out.seek(len(chunk), io.SEEK_CUR)
        else:
            out.write(chunk)
    size += -size % SECTOR
    out.truncate(size)
    if not size:
        raise BadData("expected an image, found an empty file; fetch it again")
    return size


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while chunk := source.read(CHUNK_BYTES):
        yield chunk
