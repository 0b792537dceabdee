"""How far the installation of a board is: which step of how many, and how long that one still takes, if known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from console.progress import Progress, progress

LOOK, CHOOSE, SEND, SWITCH, WAIT = (
    "looking",
    "choosing libraries",
    "sending",
    "switching",
    "waiting until it is healthy",
)
STAGES = (LOOK, CHOOSE, SEND, SWITCH, WAIT)


@dataclass(frozen=True)
class Stages:
    """Of one board; with `quiet` nothing is shown."""

    host: str
    quiet: bool = False

    @contextmanager
    def __call__(self, name: str, total: float | None = None, *, unit: str = "steps") -> Iterator[Progress]:
        """Show one of STAGES, of a size where it has one."""
        title = f"{self.host}: {STAGES.index(name) + 1} of {len(STAGES)}, {name}"
        with progress(title, total, unit=unit, quiet=self.quiet) as bar:
            yield bar
