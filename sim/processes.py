"""Processes of a run: started in sessions of their own, told to stop in order, gone when the run is gone.

A terminal's Ctrl-C reaches the run only; the run then ends its children by pid. A child also dies with the run
if the run is killed (PR_SET_PDEATHSIG, prctl(2)).

An interrupt is an exception that may come at any instruction, and Python drops exceptions in some places: in hooks
around fork(2), in finalizers. So an interrupt is also remembered, and none is let into the start of a child.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from console.errors import EdgequiltError, TransportError

PR_SET_PDEATHSIG = 1
STOP_S = 12.0  # more than a hub gives its own agent
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Child:
    """A program of ours and the file that its words go to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def last_words(self, lines: int = 3) -> str:
        """The end of its log."""
        return " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-lines:]) or "nothing"


class Processes:
    """A context: whatever was started inside is stopped at its end, the last first. For the main thread."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.children: list[Child] = []
        self._before: dict[int, Any] = {}
        self._interrupted, self._starting = False, False

    def __enter__(self) -> Processes:  # noqa: PYI034  # not meant to be derived from
        self.logs.mkdir(parents=True, exist_ok=True)
        self._before = {number: signal.signal(number, self._interrupt) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # who is impatient must not stop the stopping
        for child in reversed(self.children):
            self.stop(child)
        for number in SIGNALS:
            signal.signal(number, self._before[number])
        if kind is None:
            self._raise_if_interrupted()

    def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Start `edgequilt ARGUMENTS`, its output going to `NAME.log`."""
        log = self.logs / f"{name}.log"
        self._starting = True
        try:
            with log.open("ab") as out:
                process = subprocess.Popen(
                    [sys.executable, "-m", "edgequilt", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,  # noqa: PLW1509  # one prctl call, no locks
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )
            self.children.append(Child(name, process, log))
        finally:
            self._starting = False
        self._raise_if_interrupted()
        return self.children[-1]

    def stop(self, child: Child) -> None:
        """Ask a child to stop, then make it."""
        if child.process.poll() is None:
            child.process.terminate()
            try:
                child.process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def check(self) -> None:
        """Raise if a child has died, or if an interrupt got lost.

        Raises:
            EdgequiltError: naming the child, with its last words.
        """
        self._raise_if_interrupted()
        for child in self.children:
            if child.process.poll() is not None:
                raise EdgequiltError(
                    f"expected {child.name} to run, but it ended with code {child.process.returncode}: "
                    f"{child.last_words()}; see {child.log}"
                )

    def wait_for(self, words: str, child: Child, timeout_s: float = 60) -> None:
        """Wait until a child has said something.

        Raises:
            TransportError: it did not within the time.
        """
        deadline = time.monotonic() + timeout_s
        while words not in child.log.read_text(errors="replace"):
            self.check()
            if time.monotonic() > deadline:
                raise TransportError(
                    f"expected {child.name} to say {words!r} within {timeout_s:.0f} s, found: {child.last_words()}"
                )
            time.sleep(0.1)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        if not self._starting:
            raise KeyboardInterrupt

    def _raise_if_interrupted(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
