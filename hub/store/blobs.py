"""Content-addressed files: the name is the SHA-256, so a file is right or it is not there.

A blob is written and synced before any row names it. A kill in between leaves a file that nobody names: harmless.
"""

from __future__ import annotations

import re
from pathlib import Path

from console.errors import IntegrityError, StorageError
from wire.files import digest, read_bytes, write_atomic
from wire.record import DIGEST


class Blobs:
    """The blobs below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Where a blob lies."""
        return self.folder / sha256[:2] / sha256

    def put(self, data: bytes) -> str:
        """Keep bytes; returns their name. Bytes that are already there are not written again.

        Raises:
            StorageError: they cannot be written.
        """
        name = digest(data)
        path = self.path(name)
        if not path.exists() or path.stat().st_size != len(data):
            write_atomic(path, data)
        else:
            path.touch()  # whoever looks for old files that nothing names shall see that it is wanted again
        return name

    def delete(self, sha256: str) -> int:
        """Let a blob go; how many bytes that gave back, 0 if it was not there.

        Raises:
            StorageError: the file system refuses.
        """
        path = self.path(sha256)
        try:
            size = path.stat().st_size if path.exists() else 0
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"expected to delete {path}, the system said: {error.strerror}") from error
        return size

    def names(self, older_than_s: float) -> list[str]:
        """All blobs whose files were written before a time, in seconds since 1970 of the file system."""
        found = (path for path in self.folder.glob("??/*") if re.fullmatch(DIGEST, path.name))
        return sorted(path.name for path in found if path.stat().st_mtime < older_than_s)

    def get(self, sha256: str) -> bytes:
        """The bytes of a blob.

        Raises:
            StorageError: there is none.
            IntegrityError: the file holds other bytes than it did.
        """
        data = read_bytes(self.path(sha256), "a blob of the hub")
        if digest(data) != sha256:
            raise IntegrityError(
                f"expected a file with SHA-256 {sha256} at {self.path(sha256)}, found other bytes; restore the "
                f"hub's folder from a backup"
            )
        return data
