"""A release of the agent on its way to boards: a manifest that a publisher signs, and all files in one packed stream.

The stream is zlib's, of the files' bytes one after the other as the manifest lists them: it has no names, no sizes and
no links of its own, so that nothing in it can contradict what was signed (docs/updates.md).
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from console.errors import BadData, IntegrityError, StorageError
from wire.files import file_digest, inside, sync_folder
from wire.json_text import parse_json
from wire.record import DIGEST, at_least, matching, plain, read_record

MANIFEST, SIGNATURE, STREAM = "program.json", "program.sig", "program.z"
LIMIT_BYTES = 16 << 20  # of a manifest
LARGEST_BYTES = 4 << 30  # of all files
VERSION = r"[0-9][0-9A-Za-z.]{0,40}\+[0-9a-z]{4,64}"  # the name of a folder on boards
LAST = "release.json"
BLOCK_BYTES = 1 << 18
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Part:
    """A file of a release; its path is below the release's folder."""

    path: str
    bytes: int = field(metadata=at_least(0, LARGEST_BYTES))
    sha256: str = field(metadata=matching(DIGEST))
    mode: int = field(default=0o644, metadata=at_least(0, 0o777))


@dataclass(frozen=True)
class Packed:
    """The manifest: what a release is, for which system, and how its stream must be.

    Attributes:
        version: `0.1.0+1f3c9a40`, as in release.json.
        python, glibc, architecture: of the system, as `3.11`, `2.36`, `aarch64`.
        stream_bytes, stream_sha256: of the packed file.
        files: in the order of the stream; release.json is the last.
    """

    version: str = field(metadata=matching(VERSION))
    python: str = field(metadata=matching(r"3\.\d{1,3}"))
    glibc: str = field(metadata=matching(r"2\.\d{1,3}"))
    architecture: str = field(metadata=matching(r"[a-z0-9_]{1,20}"))
    stream_bytes: int = field(metadata=at_least(1, LARGEST_BYTES))
    stream_sha256: str = field(metadata=matching(DIGEST))
    files: tuple[Part, ...]
    schema: Literal[1] = 1
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(part.bytes for part in self.files)

    @property
    def system(self) -> str:
        """The system that it is for, in words."""
        return system_words(self.python, self.glibc, self.architecture)


def system_words(python: str, glibc: str, architecture: str) -> str:
    """As boards tell it in a hello.

    >>> system_words("3.11", "2.36", "aarch64")
    'Python 3.11, glibc 2.36, aarch64'
    """
    return f"Python {python}, glibc {glibc}, {architecture}"


def to_bytes(packed: Packed) -> bytes:
    """The manifest as it is signed."""
    return json.dumps(plain(packed), indent=1).encode() + b"\n"


def parse(body: bytes, where: str = "a release") -> Packed:
    """Read a manifest.

    Raises:
        BadData: it is none, or contradicts itself.
    """
    try:
        found = read_record(Packed, parse_json(body), where)
    except ValueError as error:
        raise BadData(f"expected {where} as JSON, found something else ({error}); make it again") from error
    problem = _contradiction(found.files)
    if problem:
        raise BadData(f"expected {where} without contradictions, but {problem}; make it again")
    return found


def _contradiction(files: Sequence[Part]) -> str:
    if not files or files[-1].path != LAST:
        return f"its last file is not {LAST}"
    if sum(part.bytes for part in files) > LARGEST_BYTES:
        return f"its files have more than {LARGEST_BYTES} bytes"
    names = set[str]()
    for part in files:
        pure = PurePosixPath(part.path)
        try:
            inside(Path("release"), part.path)
        except IntegrityError:
            return f"{part.path[:80]!r} is no place in a release"
        if str(pure) != part.path or "\0" in part.path or part.path in names:
            return f"{part.path[:80]!r} is there twice, or written in another way than paths are"
        names.add(part.path)
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    both = sorted(names & folders)
    return f"{both[0][:80]!r} is a file and a folder" if both else ""


def pack(sources: Sequence[Callable[[], BinaryIO]], target: Path) -> tuple[int, str]:
    """Write the stream of some files in order; its length and SHA-256.

    Raises:
        StorageError: it cannot be written.
    """
    squeeze = zlib.compressobj(6)
    try:
        with target.open("wb") as out:
            for opened in sources:
                with opened() as file:
                    while block := file.read(BLOCK_BYTES):
                        out.write(squeeze.compress(block))
            out.write(squeeze.flush())
    except OSError as error:
        raise StorageError(f"expected to write {target}, stopped ({error.strerror}); free some space") from error
    return target.stat().st_size, file_digest(target)


def unpack(stream: Path, packed: Packed, folder: Path, advance: Advance = lambda n: None) -> None:
    """Write the files of a release into a folder, each synced and compared with its digest.

    Args:
        stream: the packed file, whose digest was compared.
        packed: its manifest.
        folder: is made; what is in it stays.
        advance: told the bytes of each block.

    Raises:
        IntegrityError: the stream holds something else than the manifest lists.
        StorageError: the disk does not take it.
    """
    try:
        with stream.open("rb") as file:
            flow = _Flow(file)
            for part in packed.files:
                _written(flow, part, inside(folder, part.path), advance)
            if flow.read(1):
                raise IntegrityError("expected the files of a release, found more behind them; make it again")
        for part in packed.files:  # all are written by now: the first wait is for most of them, the others are short
            _synced(inside(folder, part.path))
            advance(0)
        for place in {folder, *(inside(folder, part.path).parent for part in packed.files)}:
            sync_folder(place)
    except OSError as error:
        raise StorageError(f"expected to write {folder}, stopped ({error.strerror}); free some space") from error


def differing(folder: Path, packed: Packed, advance: Advance = lambda n: None) -> Iterator[str]:
    """Paths of files that are not there as the manifest lists them."""
    for part in packed.files:
        path = inside(folder, part.path)
        try:
            same = path.stat().st_size == part.bytes and file_digest(path, advance) == part.sha256
        except OSError:
            same = False
        if not same:
            yield part.path


def _written(flow: _Flow, part: Part, target: Path, advance: Advance) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    left, sha = part.bytes, sha256()
    with target.open("wb") as out:
        while left:
            block = flow.read(min(left, BLOCK_BYTES))
            if not block:
                raise IntegrityError(f"expected {part.bytes} bytes of {part.path}, found {part.bytes - left}")
            sha.update(block)
            out.write(block)
            advance(len(block))
            left -= len(block)
        os.fchmod(out.fileno(), part.mode)
    if sha.hexdigest() != part.sha256:
        raise IntegrityError(f"expected {part.path} as the manifest says, found other bytes; make the release again")


def _synced(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


class _Flow:
    """A packed stream, unpacked no further than is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._zip = file, zlib.decompressobj()

    def read(self, most: int) -> bytes:
        """At most so many bytes; none at the end.

        Raises:
            IntegrityError: it is no such stream.
        """
        try:
            while not self._zip.eof:
                data = self._zip.unconsumed_tail or self._file.read(BLOCK_BYTES)
                found = self._zip.decompress(data, most)
                if found:
                    return found
                if not data:
                    break
        except zlib.error as error:
            raise IntegrityError(f"expected a packed release, found something else ({error})") from error
        return b""
