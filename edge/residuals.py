"""What thin updates lost, on disk: one that counts, and one for each update without a receipt. No numpy here.

* `lost/DIGEST`: what the update of that name loses, if it counts. There before the update is in the outbox.
* `lost/counts`: what those that counted lost; the next update makes it good.

While an update waits, nothing is made good: what it makes good itself would be twice in the sum if it counts after all.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from edge.store import sweep
from wire.files import sync_folder

COUNTS = "counts"
SUFFIX = ".lost"


def beside(payload: Path) -> Path:
    """Where the worker writes what a payload loses."""
    return payload.with_name(payload.name + SUFFIX)


class Residuals:
    """The state folder's part for them; `waiting` are the updates in the outbox."""

    def __init__(self, folder: Path, waiting: Collection[str]) -> None:
        self.folder = folder / "lost"
        self._waiting: set[str] = set()
        if self.folder.is_dir():
            sweep(self.folder)
            for path in self.folder.iterdir():
                if path.name in waiting:
                    self._waiting.add(path.name)
                elif path.name != COUNTS:  # of an update that was never in the outbox
                    path.unlink()

    def next(self) -> str:
        """The file whose content the next update makes good; empty: none."""
        path = self.folder / COUNTS
        return str(path.resolve()) if not self._waiting and path.is_file() else ""

    def expect(self, update: str, payload: Path) -> None:
        """An update is about to be put into the outbox: keep what it loses, if it is a thin one."""
        made = beside(payload)
        if made.is_file():
            self.folder.mkdir(exist_ok=True)
            made.replace(self.folder / update)
            sync_folder(self.folder)
            self._waiting.add(update)

    def settle(self, update: str, *, counts: bool) -> None:
        """An update is about to be forgotten, with its receipt."""
        if update not in self._waiting:
            return
        path = self.folder / update
        if counts and path.is_file():
            path.replace(self.folder / COUNTS)
            sync_folder(self.folder)
        path.unlink(missing_ok=True)
        self._waiting.discard(update)
