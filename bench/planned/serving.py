"""The process that answers local requests, as an agent starts it, and what a request takes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, cast

from bench.planned.given import Given
from bench.planned.workers import cpu_s
from edge.link import environment
from edge.local.question import Piece, Question
from edge.memory import memory
from edge.request import Place, read_frame, write_frame


@dataclass
class Served:
    """What requests took: seconds of each, and the high-water mark with the model beside that before it."""

    base_bytes: int = 0
    peak_bytes: int = 0
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


class Answering:
    """One process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge.local.answering"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(1),
        )
        self._asks, self._answers = cast("IO[bytes]", self.process.stdin), cast("IO[bytes]", self.process.stdout)

    def base_bytes(self) -> int:
        """Of a process that has imported what answering takes, which the first question has it do: it fails."""
        with contextlib.suppress(RuntimeError):
            self.ask(Place("", "", "", 0.0, ""), None, "")
        return memory(self.process.pid).get("peak_bytes", 0)

    def ask(self, place: Place, given: Given | None, text: str) -> None:
        """One request.

        Raises:
            RuntimeError: it was not answered.
        """
        data = text.encode()
        digest, version = ("", None) if given is None else (given.digest, given.version)
        question = Question("q", "infer", place, digest, version, (Piece("text", len(data)),))
        write_frame(self._asks, "question", question)
        self._asks.write(data)
        self._asks.flush()
        kind, fields = read_frame(self._answers) or ("error", {"reason": "the process has ended"})
        if kind == "error":
            raise RuntimeError(str(fields["reason"]))

    def serve(self, place: Place, given: Given, texts: Sequence[str]) -> Served:
        """Requests one after the other; the first, which loads, counts for memory alone."""
        found = Served(self.base_bytes())
        for at, text in enumerate(texts):
            wall, cpu = time.perf_counter(), cpu_s(self.process.pid)
            self.ask(place, given, text)
            if at:
                found.wall_s.append(time.perf_counter() - wall)
                found.cpu_s.append(cpu_s(self.process.pid) - cpu)
        found.peak_bytes = memory(self.process.pid).get("peak_bytes", 0)
        return found

    def close(self) -> None:
        """End it."""
        self._asks.close()
        self.process.wait()
