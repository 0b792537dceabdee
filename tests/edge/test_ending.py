"""An agent that is told to end does so, whichever thread the system tells and whatever the main one waits for."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.processes import started

# The main thread takes no signals: the system hands them to another one, and nothing interrupts the waiting.
PROGRAM = """
import queue, signal, sys, threading
from edge.ending import SIGNALS, on_signal

stop, inbox = threading.Event(), queue.SimpleQueue()
on_signal(lambda: (stop.set(), inbox.put("wake")))
if sys.argv[1] == "deaf":
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
print("ready", flush=True)
if sys.argv[2] == "inbox":
    inbox.get(timeout=600)
else:
    stop.wait(600)
print("ended", stop.is_set(), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda x: x.name)
@pytest.mark.parametrize("waits", ["inbox", "event"])
@pytest.mark.parametrize("main", ["deaf", "hears"])
def test_a_signal_ends_every_wait(number: signal.Signals, waits: str, main: str) -> None:
    """A wait of ten minutes is over when the signal comes, even if the main thread is never interrupted."""
    with started([sys.executable, "-c", PROGRAM, main, waits], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stdout.read() == "ended True\n"
