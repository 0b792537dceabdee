"""Progress of long work: a bar on a terminal, sparse lines elsewhere, nothing with `--json` or `--quiet`.

rich draws the bar and is imported only when a bar is drawn: agents on boards never load it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from console.table import size

LINE_EVERY_S = 10.0


class Progress(Protocol):
    """One piece of work of known or unknown size."""

    def advance(self, amount: float = 1) -> None:
        """Add `amount` (bytes or steps) to what is done."""

    def say(self, text: str) -> None:
        """Change what is shown beside the bar."""


class _Silent:
    def advance(self, amount: float = 1) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        """Nothing is shown."""


class _Lines:
    """For logs: one line when the work starts and then at most one every ten seconds."""

    def __init__(self, title: str, total: float | None, unit: str) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, 0.0
        self.shown_at = self.began_at = time.monotonic()
        print(f"{title} ...", file=sys.stderr, flush=True)

    def advance(self, amount: float = 1) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.shown_at >= LINE_EVERY_S:
            self.shown_at = now
            print(f"{self.title} ... {self._far(now)}", file=sys.stderr, flush=True)

    def _far(self, now: float) -> str:
        """How much is done, and how long the rest takes if it goes on like that."""
        done, of = (self._amount(amount) for amount in (self.done, self.total or 0.0))
        if not self.total or not self.done:
            return done
        left_s = (now - self.began_at) * max(0.0, self.total - self.done) / self.done
        return f"{done} of {of}, {left_s:.0f} s left"

    def _amount(self, amount: float) -> str:
        return size(amount) if self.unit == "bytes" else f"{amount:g} {self.unit}"

    def say(self, text: str) -> None:
        self.title = text


@contextmanager
def progress(title: str, total: float | None = None, *, unit: str = "steps", quiet: bool = False) -> Iterator[Progress]:
    """Show how far a piece of work is.

    Args:
        title: what is being done.
        total: its size in `unit`, or None when it is not known.
        unit: "steps" or "bytes".
        quiet: show nothing (with `--json`).
    """
    if quiet:
        yield _Silent()
    elif sys.stderr.isatty():
        yield from _bar(title, total, unit)
    else:
        yield _Lines(title, total, unit)


def _bar(title: str, total: float | None, unit: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    counter = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        counter,
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=False) as bars:
        task = bars.add_task(title, total=total)

        class _Rich:
            def advance(self, amount: float = 1) -> None:
                bars.advance(task, amount)

            def say(self, text: str) -> None:
                bars.update(task, description=text)

        yield _Rich()
