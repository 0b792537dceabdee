"""An ext4 partition of an image, by debugfs at its offset: nothing is mounted, files belong to root.

debugfs (e2fsprogs) ends with 0 whatever happened, so everything is read back and compared, and e2fsck has the last
word. It writes into the folder that it stands in and overwrites nothing; a file system whose journal was not replayed
it damages, so those are refused. What it reads from lies beside the image: a token is in no other place.
"""

from __future__ import annotations

import hashlib
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from console.errors import BadData, IntegrityError, StorageError
from console.table import mib
from devices.flash.debugfs import Node, nodes, quoted, script
from devices.flash.needs import Needs, folders_of, needs_of
from devices.flash.partitions import Part
from devices.flash.tools import attempt, run
from devices.payload.placed import Payload, Placed
from wire.files import file_digest

READ_LIMIT = 1 << 20
FOLLOWED = 8  # links in a row
FOLDER_MODE = 0o755  # of what is made on the way
_LINK = re.compile(r'^Fast link dest: "(.*)"$', re.MULTILINE)
_FEATURES = re.compile(r"^Filesystem features:\s+(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Ext4:
    """A file system; see `devices.flash.changes.Tree`."""

    image: Path
    part: Part

    @property
    def _at(self) -> str:
        return f"{self.image}?offset={self.part.start_bytes}"

    # ------------------------------------------------------------------------------------------- looking

    def read(self, path: str) -> bytes | None:
        """A small file, links followed, or None."""
        found = self.read_whole(path)
        return None if found is None else found[:READ_LIMIT]

    def read_whole(self, path: str) -> bytes | None:
        """The same, whatever its size."""
        found = self._followed(path)
        return None if found is None else self._raw(found)

    def names(self, path: str) -> tuple[str, ...]:
        """What a folder holds."""
        found = self._followed(path)
        if found is None:
            return ()
        lines = self._ask(f"ls -p {quoted(found)}").splitlines()
        names = [line.split("/")[5] for line in lines if line.startswith("/") and line.count("/") >= 6]
        return tuple(name for name in names if name not in (".", "..", ""))

    def free(self) -> Needs:
        """What is free."""
        head = self._head()
        return Needs(_number(head, "Free blocks") * _number(head, "Block size"), _number(head, "Free inodes"))

    def bytes_for(self, inodes: int) -> int:
        """By how much it has to grow to have so many inodes more."""
        head = self._head()
        groups = -(-inodes // max(1, _number(head, "Inodes per group")))
        # the last group may be a part of one, whose inodes are there already
        whole = groups + 1 if inodes else 0
        return whole * _number(head, "Blocks per group") * _number(head, "Block size")

    def needs_recovery(self) -> bool:
        """Whether its journal holds what was not replayed: it was not unmounted."""
        found = _FEATURES.search(self._head())
        return found is not None and "needs_recovery" in found[1].split()

    def check(self) -> None:
        """Let e2fsck look at it.

        Raises:
            IntegrityError: it finds something.
        """
        done = attempt("e2fsck", ["-f", "-n", self._at])
        if done.returncode != 0:
            said = done.stdout.decode(errors="replace").strip().splitlines()
            where = f"partition {self.part.number}"
            raise IntegrityError(f"expected a sound file system in {where}, e2fsck found: {said[-1]}")

    # ------------------------------------------------------------------------------------------- writing

    def inject(self, payload: Payload) -> None:
        """Make it so: files, links and folders, owned by root, whatever was there in their places.

        Raises:
            BadData: the journal was not replayed.
            StorageError: there is too little room.
            IntegrityError: what is read back is not what was written, or e2fsck finds something.
        """
        if self.needs_recovery():
            raise BadData(
                f"expected a file system that was unmounted in partition {self.part.number}, found one whose journal "
                "was not replayed; take an untouched image, or run e2fsck on a copy of the partition"
            )
        self._require_room(payload)
        self.check()
        with self._aside() as folder:
            there = self._there(payload, folder)
            script(self._at, self._commands(payload, folder, there), folder, write=True)
        self._compare(payload, there)
        self.check()

    @contextmanager
    def _aside(self) -> Iterator[Path]:
        """A folder beside the image, where a token is in no other user's sight."""
        with tempfile.TemporaryDirectory(prefix="edgequilt-", dir=self.image.parent) as folder:
            yield Path(folder)

    def _require_room(self, payload: Payload) -> None:
        needs, free = needs_of(payload), self.free()
        if needs.beyond(free).any:
            raise StorageError(
                f"expected {mib(needs.bytes)} and {needs.inodes} inodes free in partition {self.part.number}, found "
                f"{mib(free.bytes)} and {free.inodes}; take an image with more room"
            )

    def _commands(self, payload: Payload, folder: Path, there: set[str]) -> Iterator[str]:
        made, modes = set[str](), dict(payload.folders)
        yield from (f"rm {quoted(path)}" for path in payload.removed)
        for path in dict.fromkeys(p for p, _ in payload.folders):
            yield from self._folders(f"{path}/-", made, there, modes)
        files = {placed.path: placed for placed in payload.files}  # of two with one path, the later holds
        for number, placed in enumerate(files.values()):
            source = placed.content
            if isinstance(source, bytes):
                source = folder / f"content{number}"
                source.write_bytes(placed.content)  # type: ignore[arg-type]  # bytes, as was just seen
            yield from self._folders(placed.path, made, there, modes)
            yield from self._entry(placed.path, f"write {quoted(str(source))} {quoted(_name(placed.path))}")
            yield from _fields(placed.path, stat.S_IFREG | placed.mode)
        for link in {link.path: link for link in payload.links}.values():
            yield from self._folders(link.path, made, there, modes)
            yield from self._entry(link.path, f"symlink {quoted(_name(link.path))} {quoted(link.target)}")

    def _folders(self, path: str, made: set[str], there: set[str], modes: dict[str, int]) -> Iterator[str]:
        """One level at a time; folders that are there keep what they are, unless a mode is wanted."""
        for parent in reversed(PurePosixPath(path).parents[:-1]):
            name = str(parent)
            if name in made:
                continue
            made.add(name)
            if name not in there:
                # one that is there would lose an inode; and of "/root" debugfs takes the working folder for the parent
                yield f"cd {quoted(str(parent.parent))}"
                yield f"mkdir {quoted(parent.name)}"
            if name in modes or name not in there:
                yield from _fields(name, stat.S_IFDIR | modes.get(name, FOLDER_MODE))

    def _there(self, payload: Payload, folder: Path) -> set[str]:
        """Which folders on the way there are.

        Raises:
            BadData: something else is in the place of one.
        """
        found = nodes(self._at, folders_of(payload), folder)
        other = [path for path, node in found.items() if node.kind not in ("directory", "symlink")]
        if other:
            raise BadData(f"expected a folder at {other[0]} in the image, found a file; take an untouched image")
        return set(found)

    def _entry(self, path: str, command: str) -> Iterator[str]:
        yield f"rm {quoted(path)}"
        yield f"cd {quoted(str(PurePosixPath(path).parent))}"
        yield command

    def _compare(self, payload: Payload, there: set[str]) -> None:
        """Contents, and who may do what with them: an agent whose launcher nobody may read starts nowhere."""
        files = {placed.path: placed for placed in payload.files}
        links = {link.path: link.target for link in payload.links}
        with self._aside() as folder:
            dumped = {path: folder / str(number) for number, path in enumerate(files)}
            script(self._at, (f"dump {quoted(path)} {quoted(str(at))}" for path, at in dumped.items()), folder)
            wrong = [path for path, at in dumped.items() if not _same(at, files[path])]
            wrong += self._misplaced(payload, there, folder)
        wrong += [path for path, target in links.items() if self._target(path) != target]
        gone = (path for path in payload.removed if path not in files and path not in links)
        wrong += [path for path in gone if self._kind(path) not in ("", "directory")]
        if wrong:
            raise IntegrityError(
                f"expected {wrong[0]} in the image as written, found something else ({len(wrong)} in all); the image "
                "is not used"
            )

    def _misplaced(self, payload: Payload, there: set[str], folder: Path) -> list[str]:
        """Files and folders whose kind, mode or owner is another one than was told."""
        modes = dict(payload.folders)
        wanted = {path: FOLDER_MODE for path in folders_of(payload) if path not in there} | modes
        nodes_wanted = {path: Node("directory", stat.S_IMODE(mode)) for path, mode in wanted.items()}
        nodes_wanted |= {placed.path: Node("regular", stat.S_IMODE(placed.mode)) for placed in payload.files}
        found = nodes(self._at, list(nodes_wanted), folder)
        return [path for path, node in nodes_wanted.items() if found.get(path) != node]

    # --------------------------------------------------------------------------------------------- debugfs

    def _ask(self, command: str) -> str:
        return run("debugfs", ["-R", command, self._at]).decode(errors="replace")

    def _raw(self, path: str) -> bytes:
        return run("debugfs", ["-R", f"cat {quoted(path)}", self._at])

    def _stat(self, path: str) -> str:
        return self._ask(f"stat {quoted(path)}")

    def _kind(self, path: str) -> str:
        """`regular`, `directory`, `symlink` ...; empty where there is nothing."""
        found = re.search(r"Type: (\w+)", self._stat(path))
        return found[1] if found else ""

    def _target(self, path: str) -> str | None:
        """What a link says."""
        told = self._stat(path)
        if "Type: symlink" not in told:
            return None
        found = _LINK.search(told)
        return found[1] if found else self._raw(path).decode(errors="replace")

    def _followed(self, path: str) -> str | None:
        """Where a path leads."""
        at = "/" + path.strip("/")
        for _ in range(FOLLOWED):
            kind = self._kind(at)
            if kind != "symlink":
                return at if kind else None
            at = _joined(str(PurePosixPath(at).parent), self._target(at) or "")
        return None

    def _head(self) -> str:
        return run("dumpe2fs", ["-h", self._at]).decode(errors="replace")


def _fields(path: str, mode: int) -> Iterator[str]:
    """The bits of the type, too; and owner and group, which are the builder's in some versions."""
    fields = (("mode", f"0{mode:o}"), ("uid", "0"), ("gid", "0"))
    yield from (f"set_inode_field {quoted(path)} {name} {value}" for name, value in fields)


def _number(head: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)$", head, re.MULTILINE)
    return int(found[1]) if found else 0


def _same(found: Path, placed: Placed) -> bool:
    if not found.exists():
        return False
    wanted = placed.content
    expected = hashlib.sha256(wanted).hexdigest() if isinstance(wanted, bytes) else file_digest(wanted)
    return file_digest(found) == expected


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _joined(folder: str, target: str) -> str:
    """A link's target from its folder, with `..` taken away.

    >>> _joined("/usr/bin", "../lib/x"), _joined("/a", "/b")
    ('/usr/lib/x', '/b')
    """
    parts: list[str] = []
    for part in PurePosixPath(folder, target).parts[1:]:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/" + "/".join(parts)
