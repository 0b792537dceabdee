"""Files that are either whole or not there, and the digests that prove which bytes they are."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from console.errors import IntegrityError, StorageError

BLOCK_BYTES = 1 << 20


def digest(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits.

    >>> digest(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path, advance: Callable[[int], None] = lambda n: None) -> str:
    """SHA-256 of a file, read in blocks; `advance` is told the bytes of each."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            sha.update(block)
            advance(len(block))
    return sha.hexdigest()


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a power cut, sees all of it or none: temporary name, fsync, rename.

    Raises:
        StorageError: the folder cannot be written, or something other than a file is there: a rename would take the
            place of a device such as /dev/null.
    """
    if not is_file(path) and path.exists():
        raise StorageError(f"expected a file or nothing at {path}, found something else; choose another place")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise StorageError(
            f"expected to write {path}, but {path.parent} cannot be written ({error.strerror}); choose another place"
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
        sync_folder(path.parent)
    except BaseException as error:  # Ctrl-C leaves nothing half either
        Path(name).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise StorageError(
            f"expected to write {len(data)} bytes to {path}, stopped ({error.strerror}); free some space"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bytes(path: Path, what: str, limit_bytes: int = 1 << 31) -> bytes:
    """A whole file of bounded size.

    Raises:
        StorageError: it cannot be read, or is larger than the limit.
    """
    try:
        size = path.stat().st_size
        if size > limit_bytes:
            raise StorageError(f"expected {what} of at most {limit_bytes} bytes at {path}, found {size}")
        return path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"expected {what} at {path}, found none that can be read ({error.strerror}); check the path"
        ) from error


def is_file(path: Path) -> bool:
    """Whether there is a file; a path that cannot be one (too long, with a zero byte) names none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """The same of a folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def inside(root: Path, relative: str) -> Path:
    """The path of a file named by a manifest, which must stay below its folder.

    Raises:
        IntegrityError: an absolute path, or one that climbs out.
    """
    pure = PurePosixPath(relative)
    if pure.is_absolute() or ".." in pure.parts or "\\" in relative or not pure.parts:
        raise IntegrityError(f"expected a file name below {root.name}, found {relative!r}; do not use this bundle")
    return root.joinpath(*pure.parts)
