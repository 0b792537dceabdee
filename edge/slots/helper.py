"""The core's side of the process that does an update: started, listened to, ended when it is silent for too long."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from edge.notice import without
from edge.slots.record import FETCH, PROVE

if TYPE_CHECKING:
    import subprocess

log = logging.getLogger("edgequilt.agent")
LONGEST_LINE = 65536
SILENCE_S: Mapping[str, float] = {FETCH: 180.0, PROVE: 900.0, "": 180.0}  # by state; empty: of all others


class Helper:
    """One process at a time; it has a session of its own, so that what it has started ends with it.

    Args:
        command: of it.
        clock: seconds that only grow.
        silence_s: how long it may say nothing, by state.
    """

    def __init__(
        self, command: Sequence[str], clock: Callable[[], float], silence_s: Mapping[str, float] = SILENCE_S
    ) -> None:
        self._command, self._clock, self._silence_s = list(command), clock, silence_s
        self._process: subprocess.Popen[bytes] | None = None
        self._rest, self._heard_at = b"", 0.0
        self.said: dict[str, Any] = {}  # by it, last

    @property
    def runs(self) -> bool:
        """Whether there is one."""
        return self._process is not None

    def start(self) -> None:
        """Begin."""
        import subprocess

        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=without(os.environ),
            start_new_session=True,
        )
        if self._process.stdout is not None:
            os.set_blocking(self._process.stdout.fileno(), False)
        self._rest, self._heard_at, self.said = b"", self._clock(), {}

    def look(self) -> int | None:
        """Hear what it says; its exit code once it has ended (negative: by a signal), None before."""
        process = self._process
        if process is None:
            return None
        code = process.poll()
        self._hear()
        if code is None and self._clock() - self._heard_at < self._patience_s:
            return None
        if code is None:
            log.warning("the update was silent for %.0f s; it is begun again", self._patience_s)
        self.end()
        return -signal.SIGKILL if code is None else code

    def end(self) -> None:
        """End it, and what it has started; what it wrote down stays."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    @property
    def _patience_s(self) -> float:
        return self._silence_s.get(str(self.said.get("state", "")), self._silence_s[""])

    def _hear(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        with suppress(BlockingIOError):
            while data := os.read(self._process.stdout.fileno(), LONGEST_LINE):
                *lines, self._rest = (self._rest + data)[-LONGEST_LINE:].split(b"\n")
                for line in lines:
                    self._heard_at = self._clock()
                    with suppress(ValueError):
                        self.said = dict(json.loads(line))
