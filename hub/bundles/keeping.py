"""The files of bundles: kept by SHA-256 beside the hub's other blobs, or left in the bundle's folder.

A file is compared with its digest before it is first served, and again when its size or time has changed since.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from console.errors import IntegrityError, StorageError
from hub.store.blobs import Blobs
from wire.bundle import Bundle
from wire.files import file_digest, inside, sync_folder

Look = tuple[int, int, int]  # of a file: inode, size, nanoseconds of its last change


@dataclass(frozen=True)
class Source:
    """A file of a bundle, and where it may lie."""

    sha256: str
    bytes: int
    places: tuple[Path, ...]


@dataclass
class Checked:
    """Which files were found to be what they should be; used by several threads."""

    looks: dict[Path, Look] = field(default_factory=dict)

    def path(self, source: Source) -> Path:
        """The file, whole.

        Raises:
            IntegrityError: it is missing, or holds other bytes than when its bundle was added.
        """
        found = next((path for path in source.places if self._holds(path, source)), None)
        if found is not None:
            return found
        raise IntegrityError(
            f"expected the file {source.sha256[:12]} of a bundle at {source.places[-1]}, found it missing or changed; "
            f"add the bundle again with `edgequilt hub add`"
        )

    def _holds(self, path: Path, source: Source) -> bool:
        with suppress(OSError):
            told = path.stat()
            look = (told.st_ino, told.st_size, told.st_mtime_ns)
            if self.looks.get(path) == look:
                return True
            if told.st_size == source.bytes and file_digest(path) == source.sha256:
                self.looks[path] = look
                return True
        return False


def keep(blobs: Blobs, bundle: Bundle) -> None:
    """Keep the files of a checked bundle, so that its folder may go away.

    Raises:
        StorageError: one cannot be written.
        IntegrityError: one changed meanwhile.
    """
    for file in bundle.manifest.files:
        keep_file(bundle.path(file.path), blobs.path(file.sha256), file.sha256, file.bytes)


def keep_file(source: Path, path: Path, sha256: str, size: int) -> None:
    """Keep a file under another path, unless it is there.

    Raises:
        StorageError: it cannot be written.
        IntegrityError: it is another one by now.
    """
    if not _is(path, sha256, size):
        _keep(source, path, sha256)


def _is(path: Path, sha256: str, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size and file_digest(path) == sha256


def _keep(source: Path, path: Path, sha256: str) -> None:
    """A hard link where that can be, which takes no space, else a copy; synced before it gets its name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as beside:
            made = Path(beside) / path.name
            try:
                os.link(source, made)
            except OSError:  # another file system, or one without links
                shutil.copyfile(source, made)
            with made.open("rb") as file:
                os.fsync(file.fileno())
            if file_digest(made) != sha256:
                raise IntegrityError(f"expected {source} as it was a moment ago, found that it changed; add it again")
            made.replace(path)
            sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"expected to keep {source}, stopped ({error.strerror}); free some space") from error


def sources(blobs: Blobs, folder: Path, files: list[tuple[str, str, int]]) -> dict[str, Source]:
    """The files (name, SHA-256, bytes) of a bundle by digest: first where the hub keeps them, then in its folder."""
    return {sha: Source(sha, size, (blobs.path(sha), inside(folder, name))) for name, sha, size in files}
