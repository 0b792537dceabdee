"""SIGTERM and SIGINT end the agent at once, whatever its threads are about.

A handler of Python's runs in the main thread and only between two of its bytecodes. A signal that comes in the instant
before that thread begins to wait, or that the system gives to another thread, is handled when the waiting is over; and
a handler that sets an Event waits for itself where it interrupts the same Event's `wait`. So the handler does nothing:
what the interpreter writes at once, from whichever thread (`signal.set_wakeup_fd`), a thread reads that only waits.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ENOUGH = b"\0"  # no signal has this number


def on_signal(end: Callable[[], None]) -> Callable[[], None]:
    """Have `end` called, on a thread of its own, for each SIGTERM and SIGINT from now on; by the main thread, once.

    Returns:
        How to let go: signals end the process as they would without us, and `end` was called for every one that came
        before that. For a program that is about to become another one, which would never see them.
    """
    inlet, outlet = os.pipe()
    os.set_blocking(outlet, False)
    signal.set_wakeup_fd(outlet, warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(inlet, end), name="signals", daemon=True)
    listener.start()
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: None)

    def let_go() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.set_blocking(outlet, True)
        os.write(outlet, ENOUGH)  # behind all signals that came
        listener.join()
        os.close(inlet)
        os.close(outlet)

    return let_go


def _listen(inlet: int, end: Callable[[], None]) -> None:
    while (told := os.read(inlet, 1)) and told != ENOUGH:
        if told[0] in SIGNALS:
            end()
