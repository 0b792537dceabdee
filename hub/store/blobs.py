"""Content-addressed files: the name is the SHA-256, so a file is right or it is not there.

A blob is written and synced before any row names it. A kill in between leaves a file that nobody names: harmless.
"""

from __future__ import annotations

from pathlib import Path

from console.errors import IntegrityError
from wire.files import digest, read_bytes, write_atomic


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
        return name

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
