"""A FAT partition of an image, by mtools: nothing is mounted; what they read from lies beside the image."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from console.errors import StorageError
from devices.flash.partitions import Part
from devices.flash.tools import attempt, run
from devices.payload.placed import Payload

READ_LIMIT = 1 << 20


@dataclass(frozen=True)
class Fat:
    """A file system; see `devices.flash.changes.Tree`."""

    image: Path
    part: Part

    @property
    def _at(self) -> str:
        return f"{self.image}@@{self.part.start_bytes}"

    def read(self, path: str) -> bytes | None:
        """A small file, or None."""
        found = self.read_whole(path)
        return None if found is None else found[:READ_LIMIT]

    def read_whole(self, path: str) -> bytes | None:
        """The same, whatever its size."""
        done = attempt("mcopy", ["-n", "-i", self._at, _named(path), "-"])
        return done.stdout if done.returncode == 0 else None

    def names(self, path: str) -> tuple[str, ...]:
        """What a folder holds."""
        done = attempt("mdir", ["-b", "-i", self._at, f"{_named(path)}/"])
        lines = done.stdout.decode(errors="replace").splitlines() if done.returncode == 0 else []
        return tuple(PurePosixPath(line.removeprefix("::")).name for line in lines)

    def inject(self, payload: Payload) -> None:
        """Write files, in the place of those that are there, and remove some.

        Raises:
            StorageError: mtools failed, or what is read back is not what was written.
        """
        if payload.links:
            raise StorageError("expected no links for a FAT partition, found some; it has none")
        for path in payload.removed:
            if self.read(path) is not None:
                run("mdel", ["-i", self._at, _named(path)])
        made: set[str] = set()
        with tempfile.TemporaryDirectory(prefix="edgequilt-", dir=self.image.parent) as folder:
            for placed in payload.files:
                self._folders(placed.path, made)
                source = placed.content
                if isinstance(source, bytes):
                    source = Path(folder) / "file"
                    source.write_bytes(placed.content)  # type: ignore[arg-type]  # bytes, as was just seen
                run("mcopy", ["-o", "-i", self._at, source, _named(placed.path)])
                if attempt("mcopy", ["-n", "-i", self._at, _named(placed.path), "-"]).stdout != source.read_bytes():
                    raise StorageError(f"expected {placed.path} in the FAT partition as written, found other bytes")

    def _folders(self, path: str, made: set[str]) -> None:
        for parent in reversed(PurePosixPath("/" + path.lstrip("/")).parents[:-1]):
            name = str(parent)
            if name not in made and not self._has(name):
                run("mmd", ["-i", self._at, _named(name)])
            made.add(name)

    def _has(self, path: str) -> bool:
        return attempt("mdir", ["-b", "-i", self._at, _named(path)]).returncode == 0


def _named(path: str) -> str:
    return f"::/{path.strip('/')}" if path.strip("/") else "::"
