"""Which processes there are: read from /proc, without asking who started them."""

from __future__ import annotations

from pathlib import Path


def mentioning(words: str) -> dict[int, str]:
    """Processes whose command line holds some words, by id, but for those that have ended."""
    found = {}
    for folder in _running():
        command = _read(folder / "cmdline").replace("\0", " ")
        if words in command:
            found[int(folder.name)] = command
    return found


def descendants(pid: int) -> set[int]:
    """Children of a process, their children and so on, whatever session they are in."""
    parents = {int(folder.name): _parent(folder) for folder in _running()}
    found: set[int] = set()
    grown = True
    while grown:
        more = {child for child, parent in parents.items() if parent in found | {pid}} - found
        found, grown = found | more, bool(more)
    return found


def is_gone(pid: int) -> bool:
    """Whether a process has ended, also where nobody has asked for its exit code yet."""
    return _state(Path("/proc") / str(pid)) in "ZX"


def _running() -> list[Path]:
    folders = [folder for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [folder for folder in folders if _state(folder) not in "ZX"]


def _state(folder: Path) -> str:
    fields = _read(folder / "stat").rpartition(")")[2].split()
    return fields[0] if fields else "X"


def _parent(folder: Path) -> int:
    fields = _read(folder / "stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else 0


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:  # it has just ended
        return ""
