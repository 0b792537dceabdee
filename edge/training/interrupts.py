"""Ctrl-C that cannot get lost: Python drops an exception that a signal raises while an object is finalised."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """Raise KeyboardInterrupt as usual; the function that is given raises it again if it was dropped.

    Call it between steps. Outside of the main thread, where no signal arrives, nothing changes; nor where Ctrl-C is
    ignored, as in a shell's background jobs.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        came.append(number)
        raise KeyboardInterrupt

    def again() -> None:
        if came:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield again
    finally:
        signal.signal(signal.SIGINT, before)
