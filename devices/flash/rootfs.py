"""A root file system as a folder, for boards that are not written as a card: NVIDIA's tools take it from there.

Links are followed as a system that has this folder for its root would do it: an absolute one begins at the folder, and
`..` ends there. So none leads out of it, whatever it says.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from console.errors import BadData, StorageError, UsageError
from console.table import mib
from devices.flash.ext4 import FOLLOWED, READ_LIMIT
from devices.flash.needs import Needs, folders_of, needs_of
from devices.payload.placed import Linked, Payload, Placed

PART = ".edgequilt-"  # beside its place, until it is whole
ROOT = (0, 0)  # owner and group of all that is placed


@dataclass(frozen=True)
class Folder:
    """A root file system; see `devices.flash.changes.Tree`."""

    path: Path

    # ------------------------------------------------------------------------------------------- looking

    def read(self, path: str) -> bytes | None:
        """A small file, links followed, or None."""
        return self._read(path, READ_LIMIT)

    def read_whole(self, path: str) -> bytes | None:
        """The same, whatever its size."""
        return self._read(path, -1)

    def names(self, path: str) -> tuple[str, ...]:
        """What a folder holds."""
        found = self.real(path)
        return () if found is None or not found.is_dir() else tuple(sorted(entry.name for entry in found.iterdir()))

    def real(self, path: str, *, last: bool = True) -> Path | None:
        """Where a path of the system is on this machine, always in the folder; None where links go round.

        Args:
            path: as the system knows it.
            last: whether a link at its very end is followed, too.
        """
        todo, done, links = list(PurePosixPath("/", path).parts[1:]), list[str](), 0
        while todo:
            name = todo.pop(0)
            if name == "..":
                done = done[:-1]
                continue
            here = self.path.joinpath(*done, name)
            if not here.is_symlink() or not (todo or last):
                done.append(name)
                continue
            links += 1
            if links > FOLLOWED:
                return None
            target = here.readlink()
            done = [] if target.is_absolute() else done
            todo = [part for part in target.parts if part != "/"] + todo
        return self.path.joinpath(*done)

    def _read(self, path: str, limit: int) -> bytes | None:
        found = self.real(path)
        if found is None or not found.is_file():
            return None
        with found.open("rb") as file:
            return file.read(limit)

    # ------------------------------------------------------------------------------------------- writing

    def inject(self, payload: Payload, owner: tuple[int, int] | None = ROOT) -> None:
        """Make it so: files, links and folders, whatever was there in their places; each is whole or not there.

        Args:
            payload: what shall be there.
            owner: of what is placed; None: who runs this.

        Raises:
            BadData: something else is in the place of a folder or a file; nothing was written.
            StorageError: there is too little room, it cannot be written, or another run writes into it.
        """
        self._require(payload)
        with self._alone():
            self._sweep(payload)
            self._inject(payload, owner)

    def _inject(self, payload: Payload, owner: tuple[int, int] | None) -> None:
        modes = dict(payload.folders)
        try:
            for path in payload.removed:
                found = self.real(path, last=False)
                if found is not None and (found.is_symlink() or not found.is_dir()):
                    found.unlink(missing_ok=True)
            for path in modes:
                self._folder(path, modes, owner)
            for placed in {placed.path: placed for placed in payload.files}.values():
                _write(self._place(placed.path, modes, owner), placed, owner)
            for link in {link.path: link for link in payload.links}.values():
                _link(self._place(link.path, modes, owner), link, owner)
            os.sync()  # once: thousands of files, of which a second run writes all
        except OSError as error:
            raise StorageError(
                f"expected to write {error.filename or self.path}, stopped: {error.strerror}; mend it and run it again"
            ) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else writes meanwhile: what a run has in work looks like what one that was killed has left."""
        lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise StorageError(f"expected {self.path} for us alone, found another run that writes into it") from error
        finally:
            os.close(lock)

    def _sweep(self, payload: Payload) -> None:
        """Remove halves of files, which may hold a token, that a run left which was killed: no board shall get them."""
        for path in ("/", *folders_of(payload)):
            found = self.real(path)
            for part in () if found is None or not found.is_dir() else found.glob(f"{PART}*"):
                if part.is_symlink() or part.is_file():
                    part.unlink(missing_ok=True)

    def _require(self, payload: Payload) -> None:
        problems = list(self._problems(payload))
        if problems:
            raise BadData(f"{problems[0]} ({len(problems)} in all); take an untouched root file system")
        needs, told = needs_of(payload), os.statvfs(self.path)
        # btrfs and others have no end of inodes, and say 0
        free = Needs(told.f_bavail * told.f_frsize, told.f_favail if told.f_files else needs.inodes)
        if needs.beyond(free).any:
            raise StorageError(
                f"expected {mib(needs.bytes)} and {needs.inodes} inodes free at {self.path}, found {mib(free.bytes)} "
                f"and {free.inodes}; make room there"
            )

    def _problems(self, payload: Payload) -> Iterator[str]:
        paths = [placed.path for placed in payload.files] + [link.path for link in payload.links]
        for path in paths:
            found = self.real(path, last=False)
            if found is not None and found.is_dir() and not found.is_symlink():
                yield f"expected a file or nothing at {path} in {self.path}, found a folder"
        wanted = {str(parent) for path in paths for parent in PurePosixPath(path).parents[:-1]}
        for path in sorted(wanted | {path for path, _ in payload.folders}):
            found = self.real(path)
            if found is None or (found.exists() and not found.is_dir()):
                yield f"expected a folder at {path} in {self.path}, found something else"

    def _place(self, path: str, modes: dict[str, int], owner: tuple[int, int] | None) -> Path:
        """Where a file goes; folders on the way are made."""
        return self._folder(str(PurePosixPath(path).parent), modes, owner) / PurePosixPath(path).name

    def _folder(self, path: str, modes: dict[str, int], owner: tuple[int, int] | None) -> Path:
        for step in (*reversed(PurePosixPath(path).parents), PurePosixPath(path)):
            found = self.real(str(step)) or self.path
            fresh = not found.is_dir()
            if fresh:
                found.mkdir()
                _own(found, owner)
            if fresh or str(step) in modes:
                found.chmod(modes.get(str(step), 0o755))
        return self.real(path) or self.path


def require_folder(path: Path) -> Folder:
    """The folder, if it may be written.

    Raises:
        UsageError: it is none, it is the root of the system that runs, or root does not run this.
    """
    if not path.is_dir():
        raise UsageError(f"expected a folder with a root file system for --rootfs, found none at {path}")
    if path.samefile("/"):
        raise UsageError("expected another root file system for --rootfs, found this system's own; edgequilt install")
    if os.geteuid() != 0:
        raise UsageError("expected root, to whom a board's files belong, found another user; run it with sudo")
    return Folder(path.resolve())


def _write(place: Path, placed: Placed, owner: tuple[int, int] | None) -> None:
    """Beside its place first, so that nobody sees half of it, and a link there is replaced, not followed."""
    descriptor, name = tempfile.mkstemp(prefix=PART, dir=place.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if isinstance(placed.content, bytes):
                file.write(placed.content)
            else:
                with placed.content.open("rb") as source:
                    shutil.copyfileobj(source, file, READ_LIMIT)
        _own(part, owner)
        part.chmod(stat.S_IMODE(placed.mode))
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def _link(place: Path, link: Linked, owner: tuple[int, int] | None) -> None:
    part = place.with_name(f"{PART}{os.getpid()}.link")
    part.unlink(missing_ok=True)
    try:
        part.symlink_to(link.target)
        _own(part, owner)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def _own(path: Path, owner: tuple[int, int] | None) -> None:
    if owner is not None:
        os.chown(path, *owner, follow_symlinks=False)
