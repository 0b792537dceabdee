"""Programs that a test starts, and that end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from tests.conftest import ROOT

PATIENCE_S = 240  # for what takes seconds on a machine that does nothing else


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program in a session of its own; however the block ends, nothing of it is left.

    Without that a test that fails while its program runs would wait for the program's own end, which may never come.
    """
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs inherit it ignored
    with subprocess.Popen(
        command,
        cwd=ROOT,
        text=True,
        start_new_session=True,
        preexec_fn=heard,  # noqa: PLW1509  # no thread of a test holds a lock that it would need
        **options,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def until(true: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """Wait for something that a program does; it may not end before."""
    ends = time.monotonic() + PATIENCE_S
    while not true() and time.monotonic() < ends and process.poll() is None:
        time.sleep(0.005)
    assert true()
