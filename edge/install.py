"""A bundle from the hub into the state folder: nothing of it is used, or even fetched, before what names it holds.

The order, in `install`: the assignment is signed by the hub and above all that were seen (edge.intake, edge.shelf);
the manifest has the digest that the assignment names; its publisher signed it; only then its files are fetched, each
as long as the manifest says and with its digest, or it gets no name; and only a worker that has compared all of them
once more gives one to the runtime (edge.jobs).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from console.errors import BadData, EdgequiltError, IntegrityError, StorageError
from edge.room import check_room
from wire.bundle import MANIFEST, SIGNATURE
from wire.envelope import Trust, check_detached
from wire.files import digest, file_digest, inside, read_bytes, sync_folder, write_atomic
from wire.manifest import LIMIT_BYTES, File, Manifest, parse_manifest
from wire.messages import Assignment

SIGNATURE_BYTES = 4096
PART = ".part"


class Source(Protocol):
    """Where bundles come from: `wire.https` with its server filled in."""

    def bytes(self, path: str, limit_bytes: int) -> bytes:
        """A small file."""

    def range(self, path: str, file: BinaryIO, offset: int, size: int) -> int:
        """What lacks of a large one, block by block."""


class Stopped(Exception):
    """Something else is wanted by now."""


@dataclass(frozen=True)
class Goal:
    """What to install, where, and what may be used for it.

    Attributes:
        order: the assignment.
        folder: of the new bundle.
        publishers: whose bundles are believed.
        present: folders of bundles that are here, whose files are used again.
        go_on: raises `Stopped` when it is no longer wanted; told the bytes that came and how many there are.
        looked: the same, told at every block of a file that is here and looked at, of which none comes.
    """

    order: Assignment
    folder: Path
    publishers: Trust
    present: Sequence[Path] = ()
    go_on: Callable[[int, int], None] = lambda done, of: None
    looked: Callable[[int], None] = lambda size: None


def install(goal: Goal, source: Source) -> Manifest:
    """Fetch a bundle; what came before an interruption is not fetched again.

    Raises:
        SignatureError: no believed publisher signed it: no file of it is asked for.
        BadData: it is no manifest, or that of another model.
        IntegrityError: the hub serves other bytes than it named.
        StorageError: the disk is too full, or does not take it.
        TransportError, Refused: the hub cannot be reached, or says no.
    """
    manifest = _manifest(goal, source)
    here = {file.sha256: _found(goal, file) for file in manifest.files}
    lacking = [file for file in manifest.files if not _reused(goal.folder, file, here[file.sha256])]
    _room(goal.folder, lacking)
    done, of = sum(f.bytes for f in manifest.files if f not in lacking), sum(f.bytes for f in manifest.files)
    for file in lacking:
        fetch(goal.folder, file, source, _after(goal, done, of), goal.looked)
        done += file.bytes
    sync_folder(goal.folder)
    return manifest


def _manifest(goal: Goal, source: Source) -> Manifest:
    """The manifest: first its digest, then its publisher's signature, then what it says."""
    order, folder = goal.order, goal.folder
    at, what = f"/bundles/{order.bundle}", f"bundle {order.bundle[:12]}"
    body = _stored(folder / MANIFEST, LIMIT_BYTES)
    fresh = body is None or digest(body) != order.bundle
    if body is None or fresh:
        body = source.bytes(f"{at}/{MANIFEST}", LIMIT_BYTES)
    if digest(body) != order.bundle:
        raise IntegrityError(f"expected the manifest of {what}, found other bytes; the hub serves something else")
    signature = None if fresh else _stored(folder / SIGNATURE, SIGNATURE_BYTES)
    signature = signature or source.bytes(f"{at}/{SIGNATURE}", SIGNATURE_BYTES)
    check_detached(signature, body, "publisher", goal.publishers, what)
    manifest = parse_manifest(body, what)
    if manifest.model.id != order.model:
        raise BadData(f"expected {what} of model {order.model}, found one of {manifest.model.id}; assign another one")
    for file in manifest.files:
        inside(folder, file.path)  # raises for a name that climbs out
    write_atomic(folder / SIGNATURE, signature)
    write_atomic(folder / MANIFEST, body)
    return manifest


def _stored(path: Path, limit_bytes: int) -> bytes | None:
    with suppress(EdgequiltError):
        return read_bytes(path, "a part of a bundle", limit_bytes)
    return None


def _found(goal: Goal, wanted: File) -> Path | None:
    """A file that is here already, under whatever name; what the other manifests promise is looked at again."""
    for place in (goal.folder / wanted.path, *_listed(goal.present, wanted.sha256)):
        with suppress(OSError):
            if place.stat().st_size == wanted.bytes and file_digest(place, goal.looked) == wanted.sha256:
                return place
    return None


def _listed(folders: Sequence[Path], sha256: str) -> Iterator[Path]:
    for folder in folders:
        with suppress(EdgequiltError):
            for file in parse_manifest(read_bytes(folder / MANIFEST, "a manifest", LIMIT_BYTES)).files:
                if file.sha256 == sha256:
                    yield inside(folder, file.path)


def _reused(folder: Path, file: File, place: Path | None) -> bool:
    """Have a file in the folder without fetching it."""
    target = inside(folder, file.path)
    if place is None:
        target.unlink(missing_ok=True)  # of another content, if there is one
        return False
    if place != target:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + PART)
        part.unlink(missing_ok=True)
        try:
            os.link(place, part)
        except OSError:
            shutil.copyfile(place, part)
        part.replace(target)
    return True


def _after(goal: Goal, before: int, of: int) -> Callable[[int], None]:
    return lambda size: goal.go_on(before + size, of)


def _room(folder: Path, lacking: Sequence[File]) -> None:
    here = sum(min(_size(folder / (f.path + PART)), f.bytes) for f in lacking)
    check_room(folder, sum(file.bytes for file in lacking) - here, "a bundle")


def fetch(
    folder: Path,
    file: File,
    source: Source,
    watch: Callable[[int], None],
    looked: Callable[[int], None] = lambda size: None,
) -> None:
    """One file: as much of it as lacks; it gets its name when its digest is right.

    Args:
        folder: where it goes.
        file: its name, length and digest, which a signed manifest told.
        source: where it is served, by its digest.
        watch: told how much of it is here, at every block that comes.
        looked: told the bytes of every block while its digest is computed.

    Raises:
        IntegrityError: the hub serves other bytes.
        StorageError: the disk does not take it.
        TransportError, Refused: the hub cannot be reached, or says no.
    """
    target = inside(folder, file.path)
    part = target.with_name(target.name + PART)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        if _size(part) > file.bytes:
            part.unlink()
        with part.open("ab", buffering=0) as out:  # a kill loses no block that was written
            at = out.tell()
            watched = _Watched(out, watch, at)
            if at < file.bytes:
                source.range(f"/blobs/{file.sha256}", watched, at, file.bytes)  # type: ignore[arg-type]  # only written to
            os.fsync(out.fileno())
        if _size(part) < file.bytes:
            raise StorageError(f"expected {file.bytes} bytes of {file.path}, found {_size(part)}; it is fetched again")
        if file_digest(part, looked) != file.sha256:
            part.unlink()
            raise IntegrityError(f"expected {file.path} as the manifest says, found other bytes; it is fetched again")
        part.replace(target)
    except OSError as error:
        raise StorageError(f"expected to write {part}, stopped ({error.strerror}); free some space") from error


class _Watched:
    """A file that says how long it is by now."""

    def __init__(self, file: BinaryIO, told: Callable[[int], None], at: int) -> None:
        self._file, self._told, self._at = file, told, at

    def tell(self) -> int:
        """How long it is."""
        return self._at

    def write(self, block: bytes) -> int:
        """All of a block: a raw file may take less than it is given."""
        view = memoryview(block)
        while view:
            view = view[self._file.write(view) :]
        self._at += len(block)
        self._told(self._at)
        return len(block)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
