"""An ext4 partition of an image, by debugfs at its offset: nothing is mounted, files belong to root.

debugfs (e2fsprogs) ends with 0 whatever happened, so everything is read back and compared, and e2fsck has the last
word. It writes into the folder that it stands in and overwrites nothing; a file system whose journal was not replayed
it damages, so those are refused.
"""

from __future__ import annotations

import hashlib
import re
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from console.errors import BadData, IntegrityError, StorageError
from console.table import mib
from devices.flash.partitions import Part
from devices.flash.tools import attempt, run
from devices.payload.placed import Payload, Placed
from wire.files import file_digest

READ_LIMIT = 1 << 20
FOLLOWED = 8  # links in a row
MARGIN_BYTES = 16 << 20  # left free beside what is written
_LINK = re.compile(r'^Fast link dest: "(.*)"$', re.MULTILINE)
_NUMBER = {name: re.compile(rf"^{name}:\s+(\d+)$", re.MULTILINE) for name in ("Free blocks", "Block size")}
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
        lines = self._ask(f"ls -p {_quoted(found)}").splitlines()
        names = [line.split("/")[5] for line in lines if line.startswith("/") and line.count("/") >= 6]
        return tuple(name for name in names if name not in (".", "..", ""))

    def free_bytes(self) -> int:
        """What is free."""
        head = self._head()
        return self._number(head, "Free blocks") * self._number(head, "Block size")

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
        with tempfile.TemporaryDirectory(prefix="edgequilt-") as folder:
            script = Path(folder) / "script"
            script.write_text("\n".join(self._commands(payload, Path(folder))) + "\n", encoding="utf-8")
            run("debugfs", ["-w", "-f", script, self._at])
        self._compare(payload)
        self.check()

    def _require_room(self, payload: Payload) -> None:
        needed = room_for(payload) + MARGIN_BYTES
        if needed > self.free_bytes():
            raise StorageError(
                f"expected {mib(needed)} free in partition {self.part.number}, found {mib(self.free_bytes())}; it is "
                "not the last partition, so it cannot be enlarged here: take a larger image"
            )

    def _commands(self, payload: Payload, folder: Path) -> Iterator[str]:
        made, there, modes = set[str](), self._there(payload), dict(payload.folders)
        yield from (f"rm {_quoted(path)}" for path in payload.removed)
        for path in dict.fromkeys(p for p, _ in payload.folders):
            yield from self._folders(f"{path}/-", made, there, modes)
        files = {placed.path: placed for placed in payload.files}  # of two with one path, the later holds
        for number, placed in enumerate(files.values()):
            source = placed.content
            if isinstance(source, bytes):
                source = folder / f"content{number}"
                source.write_bytes(placed.content)  # type: ignore[arg-type]  # bytes, as was just seen
            yield from self._folders(placed.path, made, there, modes)
            yield from self._entry(placed.path, f"write {_quoted(str(source))} {_quoted(_name(placed.path))}")
            # the bits of the type, too; and owner and group, which are the builder's in some versions
            fields = (("mode", f"0{stat.S_IFREG | placed.mode:o}"), ("uid", "0"), ("gid", "0"))
            yield from (f"set_inode_field {_quoted(placed.path)} {name} {value}" for name, value in fields)
        for link in {link.path: link for link in payload.links}.values():
            yield from self._folders(link.path, made, there, modes)
            yield from self._entry(link.path, f"symlink {_quoted(_name(link.path))} {_quoted(link.target)}")

    def _folders(self, path: str, made: set[str], there: set[str], modes: dict[str, int]) -> Iterator[str]:
        """One level at a time; folders that are there keep what they are, unless a mode is wanted."""
        for parent in reversed(PurePosixPath(path).parents[:-1]):
            name = str(parent)
            if name in made:
                continue
            made.add(name)
            if name not in there:
                # one that is there would lose an inode; and of "/root" debugfs takes the working folder for the parent
                yield f"cd {_quoted(str(parent.parent))}"
                yield f"mkdir {_quoted(parent.name)}"
            if name in modes:
                yield f"set_inode_field {_quoted(name)} mode 0{stat.S_IFDIR | modes[name]:o}"

    def _there(self, payload: Payload) -> set[str]:
        """Which folders on the way there are, asked for in one run.

        Raises:
            BadData: something else is in the place of one.
        """
        paths = [placed.path for placed in payload.files] + [link.path for link in payload.links]
        paths += [f"{path}/-" for path, _ in payload.folders]
        wanted = sorted({str(parent) for path in paths for parent in PurePosixPath(path).parents[:-1]})
        with tempfile.NamedTemporaryFile("w", prefix="edgequilt-", encoding="utf-8") as script:
            script.write("".join(f"stat {_quoted(path)}\n" for path in wanted))
            script.flush()
            told = run("debugfs", ["-f", script.name, self._at]).decode(errors="replace")
        # each command is told before its answer
        answers = [
            re.search(r"Type: (\w+)", answer) for answer in re.split(r"^debugfs: stat ", told, flags=re.MULTILINE)[1:]
        ]
        kinds = {path: answer[1] for path, answer in zip(wanted, answers, strict=True) if answer is not None}
        other = [path for path, kind in kinds.items() if kind not in ("directory", "symlink")]
        if other:
            raise BadData(f"expected a folder at {other[0]} in the image, found a file; take an untouched image")
        return set(kinds)

    def _entry(self, path: str, command: str) -> Iterator[str]:
        yield f"rm {_quoted(path)}"
        yield f"cd {_quoted(str(PurePosixPath(path).parent))}"
        yield command

    def _compare(self, payload: Payload) -> None:
        with tempfile.TemporaryDirectory(prefix="edgequilt-") as folder:
            files = list({placed.path: placed for placed in payload.files}.values())
            script = Path(folder) / "script"
            dumps = (f"dump {_quoted(f.path)} {_quoted(f'{folder}/{i}')}" for i, f in enumerate(files))
            script.write_text("\n".join(dumps) + "\n", encoding="utf-8")
            run("debugfs", ["-f", script, self._at])
            wrong = [f.path for i, f in enumerate(files) if not _same(Path(folder) / str(i), f)]
        wrong += [link.path for link in payload.links if self._target(link.path) != link.target]
        gone = {placed.path for placed in payload.files} | {link.path for link in payload.links}
        wrong += [path for path in payload.removed if path not in gone and self._kind(path) not in ("", "directory")]
        if wrong:
            raise IntegrityError(
                f"expected {wrong[0]} in the image as written, found something else ({len(wrong)} in all); the image "
                "is not used"
            )

    # --------------------------------------------------------------------------------------------- debugfs

    def _ask(self, command: str) -> str:
        return run("debugfs", ["-R", command, self._at]).decode(errors="replace")

    def _raw(self, path: str) -> bytes:
        return run("debugfs", ["-R", f"cat {_quoted(path)}", self._at])

    def _stat(self, path: str) -> str:
        return self._ask(f"stat {_quoted(path)}")

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

    def _number(self, head: str, name: str) -> int:
        found = _NUMBER[name].search(head)
        return int(found[1]) if found else 0


def room_for(payload: Payload) -> int:
    """Bytes that a payload takes: whole blocks, and an inode with its folder entry for each file."""
    sizes = (len(p.content) if isinstance(p.content, bytes) else p.content.stat().st_size for p in payload.files)
    return sum((size + 4095) // 4096 * 4096 + 512 for size in sizes)


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


def _quoted(text: str) -> str:
    """As debugfs reads it: in quotes, inner ones doubled.

    Raises:
        BadData: a line break, which no script can hold.
    """
    if "\n" in text or "\r" in text:
        raise BadData(f"expected a path of one line, found {text!r}")
    return '"' + text.replace('"', '""') + '"'
