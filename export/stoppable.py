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


@contextmanager
def held() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for the end of the block, so that what begins there is known to whoever must end it."""
    if current_thread() is not main_thread():
        yield
        return
    noted: list[int] = []
    before = {n: signal.signal(n, lambda number, _: noted.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for number in noted:
            signal.raise_signal(number)


def _stop(number: int, _frame: object) -> None:
    raise SystemExit(SIGNALLED + number)
