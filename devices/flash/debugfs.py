"""What debugfs (e2fsprogs) is told and what it answers: many commands in one run, since each opens the image."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from console.errors import BadData
from devices.flash.tools import run

_STAT = re.compile(r"Type: (\w+)\s+Mode:\s+(\d+).*?^User:\s+(\d+)\s+Group:\s+(\d+)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Node:
    """What is at a path.

    Attributes:
        kind: `regular`, `directory`, `symlink` ...
        mode: permission bits.
        owner, group: their numbers.
    """

    kind: str
    mode: int
    owner: int = 0
    group: int = 0


def script(at: str, commands: Iterable[str], folder: Path, *, write: bool = False) -> str:
    """What debugfs says to some commands.

    Args:
        at: a file system (`image?offset=N`).
        commands: one line each.
        folder: for the script.
        write: whether the file system may be changed.

    Raises:
        StorageError: debugfs did not start its work; of commands that failed it says nothing.
    """
    with tempfile.NamedTemporaryFile("w", prefix="script-", encoding="utf-8", dir=folder) as file:
        file.writelines(f"{command}\n" for command in commands)
        file.flush()
        return run("debugfs", [*(["-w"] if write else []), "-f", file.name, at]).decode(errors="replace")


def nodes(at: str, paths: Sequence[str], folder: Path) -> dict[str, Node]:
    """What is at each of some paths, the last link of them not followed; nothing is said of those where nothing is.

    Raises:
        BadData: a path has two lines, or the image holds a name that is no name.
        StorageError: see `script`.
    """
    told = script(at, (f"stat {quoted(path)}" for path in paths), folder)
    # each command is told before its answer
    answers = re.split(r"^debugfs: stat ", told, flags=re.MULTILINE)[1:]
    if len(answers) != len(paths):  # a name in the image that looks like a command
        raise BadData(f"expected {len(paths)} answers of debugfs, found {len(answers)}; take an untouched image")
    return {path: found for path, answer in zip(paths, answers, strict=True) if (found := node_in(answer)) is not None}


def node_in(answer: str) -> Node | None:
    r"""What an answer to `stat` says; None: there is nothing.

    >>> node_in("Inode: 13   Type: regular    Mode:  0644   Flags: 0x0\nVersion: 1\nUser:     5   Group:     7")
    Node(kind='regular', mode=420, owner=5, group=7)
    """
    found = _STAT.search(answer)
    return Node(found[1], int(found[2], 8), int(found[3]), int(found[4])) if found else None


def quoted(text: str) -> str:
    """As debugfs reads it: in quotes, inner ones doubled.

    Raises:
        BadData: a line break, which no script can hold.
    """
    if "\n" in text or "\r" in text:
        raise BadData(f"expected a path of one line, found {text!r}")
    return '"' + text.replace('"', '""') + '"'
