"""Processes of a run: started in sessions of their own, told to stop in order, gone when the run is gone.

A terminal's Ctrl-C reaches the run only; the run then ends its children by pid. A child also dies with the run
if the run is killed (PR_SET_PDEATHSIG, prctl(2)).
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

from console.errors import EdgequiltError, TransportError

PR_SET_PDEATHSIG = 1
STOP_S = 8.0


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
    """A context: whatever was started inside is stopped at its end, the last first."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.children: list[Child] = []
        self._before: dict[int, object] = {}

    def __enter__(self) -> Processes:  # noqa: PYI034  # not meant to be derived from
        self.logs.mkdir(parents=True, exist_ok=True)
        self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self.children):
            self.stop(child)
        signal.signal(signal.SIGTERM, self._before[signal.SIGTERM])  # type: ignore[arg-type]  # as signal gave it

    def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Start `edgequilt ARGUMENTS`, its output going to `NAME.log`."""
        log = self.logs / f"{name}.log"
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
        child = Child(name, process, log)
        self.children.append(child)
        return child

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
        """Raise if a child has died.

        Raises:
            EdgequiltError: naming it, with its last words.
        """
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


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
