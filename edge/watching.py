"""New samples: the data's files are looked at now and then, and counted again once they have not changed for a moment.

By name, size and time of change, without inotify, which network and overlay file systems do not have. Of a folder with
very many files, folders alone are looked at: a file that is added, renamed or removed changes its folder.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.errors import EdgequiltError
from edge.data.board import Counted

log = logging.getLogger("edgequilt.agent")
EVERY_S = 5.0
SETTLED_S = 4.0  # without a change: nobody writes any more
PATIENCE_S = 60.0  # data that changes all the time is read as it is
FILES = 2000  # beyond it folders alone are looked at

Seen = tuple[Any, ...]


def seen(path: Path, files: int = FILES) -> Seen:
    """What changes when the data does; empty: it cannot be read."""
    try:
        if not path.is_dir():
            found = path.stat()
            return (found.st_mtime_ns, found.st_size)
        return _folder(path, files)
    except OSError:
        return ()


def _folder(path: Path, files: int) -> Seen:
    folders, single = list[tuple[str, int]](), list[tuple[Path, str, int, int]]()
    for root, names, inside in os.walk(path):
        names.sort()
        folders.append((root, Path(root).stat().st_mtime_ns))
        if len(single) <= files:
            single += [
                (Path(root), name, *_of(Path(root) / name)) for name in sorted(inside) if not name.startswith(".")
            ]
    return (*folders, *(single if len(single) <= files else ()))


def _of(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # it went in between
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


class Watching:
    """Looks at a board's data.

    Args:
        path: of it.
        count: how its rows are counted; in a thread of its own.
        tell: told what was counted, from that thread.
    """

    def __init__(self, path: Path, count: Callable[[], Counted], tell: Callable[[Counted | str], None]) -> None:
        self._path, self._count, self._tell = path, count, tell
        self._seen, self._looked_at = seen(path), -1e9
        self._changed_at = self._began_at = -1e9
        self.settled = True  # nobody writes
        self._due, self._thread = False, threading.Thread(target=lambda: None)

    def again(self) -> None:
        """Count at the next look."""
        self._due, self._looked_at = True, -1e9

    def look(self, now: float) -> float:
        """Look, if it is time; returns when to look again, in seconds."""
        if now - self._looked_at < EVERY_S:
            return EVERY_S - (now - self._looked_at)
        self._looked_at = now
        found = seen(self._path)
        if found != self._seen:
            self._began_at = now if self.settled else self._began_at
            self._seen, self._changed_at, self._due = found, now, True
        self.settled = now - self._changed_at >= SETTLED_S or now - self._began_at >= PATIENCE_S
        if self._due and self.settled and not self._thread.is_alive():
            self._due = False
            self._thread = threading.Thread(target=self._run, name="data", daemon=True)
            self._thread.start()
        return EVERY_S

    def _run(self) -> None:
        try:
            self._tell(self._count())
        except EdgequiltError as error:
            self._tell(str(error))
