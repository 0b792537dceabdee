"""An export that is told to stop takes back what is half done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread

SIGNALLED = 128  # what a shell adds to a signal's number where it ended a program


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, by an exception; the exit code is 143.

    Children that are forked inside do the same.
    """
    if current_thread() is not main_thread():  # only there may a signal be handled
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, _frame: object) -> None:
    raise SystemExit(SIGNALLED + number)
