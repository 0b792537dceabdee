"""Keeps a session on disk while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from console.errors import StorageError
from edge.training import checkpoint
from edge.training.history import Session


@dataclass
class Saver:
    """Keeps a session on disk every so many seconds; a disk that is full is said once, and training goes on.

    Attributes:
        path: of the checkpoint; None keeps none.
        every_s: seconds between two.
        say: told that it cannot be written.
        fingerprint: of the run.
    """

    path: Path | None
    every_s: float
    say: Callable[[str], None]
    fingerprint: str = ""
    _at: float = field(default_factory=time.monotonic)
    _failed: bool = False

    def found(self) -> Session | None:
        """The session of an earlier run of the same."""
        return None if self.path is None else checkpoint.read(self.path, self.fingerprint)

    def keep(self, session: Session) -> None:
        """Write it, if it is time or over."""
        if session.over or time.monotonic() - self._at >= self.every_s:
            self.write(session)

    def write(self, session: Session) -> None:
        """Write it now."""
        self._at = time.monotonic()
        if self.path is None:
            return
        try:
            checkpoint.write(self.path, session, self.fingerprint)
        except StorageError as problem:
            if not self._failed:
                self.say(f"{problem}; training goes on, and would begin at the last checkpoint that was written")
            self._failed = True
