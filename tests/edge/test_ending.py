"""An agent that is told to end does so, whichever thread the system tells and whatever the main one waits for."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

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


# As an agent does that has got another bundle, again and again: there is hardly an instant that is not near an exec.
AGAIN = """
import os, sys, threading
from edge.ending import on_signal

stop = threading.Event()
let_go = on_signal(stop.set)
print("up", flush=True)
stop.wait(0.002)
let_go()
if not stop.is_set():
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], sys.argv[1]])
"""

HEARD = """
import os, signal, threading
from edge.ending import on_signal

stop = threading.Event()
let_go = on_signal(stop.set)
os.kill(os.getpid(), signal.SIGTERM)
let_go()
print("heard", stop.is_set(), flush=True)
stop.clear()
os.kill(os.getpid(), signal.SIGTERM)
print("alive", flush=True)
"""


def test_a_signal_is_not_lost_where_one_program_becomes_the_next() -> None:
    """Whatever instant SIGTERM comes at, a program that begins itself anew all the time ends by it, at once."""
    dice = random.Random(0)
    for _ in range(12):
        with started([sys.executable, "-c", AGAIN, AGAIN], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            time.sleep(dice.uniform(0, 0.1))
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) in (0, -signal.SIGTERM)


def test_what_came_before_letting_go_was_heard_and_what_comes_after_ends_the_process() -> None:
    """`end` was called for a signal that came just before; the next one does what it does to any program."""
    with started([sys.executable, "-c", HEARD], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "heard True\n"
        assert process.wait(20) == -signal.SIGTERM


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
