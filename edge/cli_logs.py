"""`edgequilt agent logs`: from the journal where the agent is a unit of systemd, else from the file that it writes."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from console.errors import StorageError, UsageError
from devices.payload.places import CONFIG, UNIT
from edge.logs import FILE

if TYPE_CHECKING:
    from edge.doctor.board import Board

LOOK_S = 0.5
UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def logs(given: argparse.Namespace) -> int:
    """Print the log; with `--follow` until Ctrl-C."""
    from edge.doctor.board import Board

    since_s = None if given.since is None else since(given.since, time.time())
    if given.config == Path(CONFIG) and _is_unit():
        return subprocess.run(journal(given.lines, since_s, follow=given.follow), check=False).returncode
    board = Board(given.config)
    for line in _lines(board, given.lines, since_s):
        print(line, flush=True)
    if given.follow:
        for line in follow(board.state / FILE):
            print(line, flush=True)
    return 0


def journal(lines: int | None, since_s: float | None, *, follow: bool) -> list[str]:
    """The command that shows the unit's journal."""
    command = ["journalctl", f"--unit={UNIT}", "--output=short-iso"]
    command += [] if since_s is None else [f"--since=@{since_s:.0f}"]
    command += [] if lines is None else [f"--lines={lines}"]
    return [*command, "--follow" if follow else "--no-pager"]


def since(text: str, now_s: float) -> float:
    """Seconds since 1970 of a time, or of so long ago.

    >>> since("2h", 10_000.0), since("1970-01-01T01:00:00+00:00", 0.0)
    (2800.0, 3600.0)

    Raises:
        UsageError: it is neither.
    """
    ago = re.fullmatch(r"(\d+) *(s|min|m|h|d)", text.strip())
    if ago:
        return now_s - int(ago[1]) * UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError as error:
        raise UsageError(f"expected --since as 30min, 2h, 1d or 2026-11-26T18:00, found {text!r}") from error


def kept(files: list[Path], since_s: float | None) -> Iterator[str]:
    """The lines of log files, the older file first, from a time on; lines without a time belong to the one before."""
    wanted = since_s is None
    for path in files:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                at = _time_of(line)
                wanted = wanted if at is None or since_s is None else at >= since_s
                if wanted:
                    yield line.rstrip("\n")


def follow(path: Path) -> Iterator[str]:
    """What is written to a log file from now on, also when another one takes its place."""
    file, rest = path.open(encoding="utf-8", errors="replace"), ""
    file.seek(0, 2)
    while True:
        rest += file.read()
        *whole, rest = rest.split("\n")
        yield from whole
        if whole:
            continue
        time.sleep(LOOK_S)
        if path.exists() and (path.stat().st_ino != _inode(file.fileno()) or path.stat().st_size < file.tell()):
            yield from (rest + file.read()).splitlines()
            file.close()
            file, rest = path.open(encoding="utf-8", errors="replace"), ""


def _lines(board: Board, lines: int | None, since_s: float | None) -> list[str]:
    files = [path for path in (board.state / f"{FILE}.1", board.state / FILE) if path.exists()]
    if not files:
        raise StorageError(
            f"expected a journal of {UNIT} or a log file at {board.state / FILE}, found neither; start the agent, or "
            f"name its agent.toml with --config"
        )
    found = list(kept(files, since_s))
    return found if lines is None else found[max(0, len(found) - lines) :]


def _is_unit() -> bool:
    from edge.doctor.service import said

    return (said("systemctl", "show", UNIT, "--property=LoadState", "--value") or "").strip() == "loaded"


def _time_of(line: str) -> float | None:
    try:
        return datetime.strptime(line.partition(" ")[0], "%Y-%m-%dT%H:%M:%S%z").astimezone(timezone.utc).timestamp()
    except ValueError:
        return None


def _inode(handle: int) -> int:
    return os.fstat(handle).st_ino
