"""A card that takes nothing for a while: whoever waits is told so, and what to do, while the system still waits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STALL_S = 30.0
# readers that hang answer nothing for minutes, and a write that the kernel waits for cannot be taken back
DO = (
    "a slow card may go on; if it does not, pull it out, which ends this, and try another port, reader or card; it "
    "does not boot before it is whole"
)

Advance = Callable[[int], None]


def to_people(text: str) -> None:
    """On standard error, above a bar of progress."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def watched(
    advance: Advance, what: str, say: Callable[[str], None] = to_people, after_s: float = STALL_S
) -> Iterator[Advance]:
    """Something that advances, whose silence is told once, and its end, too.

    Args:
        advance: is told of bytes.
        what: stands still: `the card /dev/sdb`.
        say: hears of it.
        after_s: seconds without a byte.
    """
    moved, over, silent = threading.Event(), threading.Event(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            if moved.wait(after_s):
                moved.clear()
                if silent.is_set() and not over.is_set():
                    silent.clear()
                    say(f"{what} goes on")
            elif not silent.is_set():
                silent.set()
                say(f"{what} has taken or given nothing for {after_s:g} s: {DO}")

    def told(size: int) -> None:
        advance(size)
        moved.set()

    watcher = threading.Thread(target=watch, name="stall", daemon=True)
    watcher.start()
    try:
        yield told
    finally:
        over.set()
        moved.set()
        watcher.join()
