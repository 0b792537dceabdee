"""Worker processes as an agent starts them, and the link between a front's and its tail's.

The core's part is small here: notes go from one worker to the other through a queue that lets so many bytes pass in a
second, both ways together taking turns as on a radio link; credits come back with each note that was taken.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.planned.given import Given
from edge.link import WorkerLink
from edge.memory import memory
from edge.request import Place, Request
from edge.split.stream import WINDOW
from edge.split.told import SUFFIX

PATIENCE_S = 900.0


@dataclass(frozen=True)
class Taken:
    """What one job took in one worker.

    Attributes:
        base_bytes: high-water mark before the job.
        peak_bytes: during the job.
        cpu_s: of the processor.
        metrics: what the worker says.
    """

    base_bytes: int
    peak_bytes: int
    cpu_s: float
    metrics: Mapping[str, Any] = field(default_factory=dict)


class Worker:
    """One worker process; `other` gets its notes, over `link`."""

    def __init__(self) -> None:
        self.link = WorkerLink(None, PATIENCE_S)
        self.answers: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.wire: Wire | None = None
        self.link.start(self._heard)

    def ready(self, folder: Path) -> int:
        """Have everything imported, by a job that names no version; the memory that this takes, in bytes."""
        self.begin(Request("none", "train", 0, (), (), Place("", "", "", 0.0, ""), str(folder / "none")))
        self.answers.get(timeout=PATIENCE_S)
        return memory(self.pid).get("peak_bytes", 0)

    @property
    def pid(self) -> int:
        """Of the process."""
        found = self.link.pid
        if found is None:
            raise RuntimeError("the worker has ended")
        return found

    def begin(self, request: Request) -> None:
        """Begin a job."""
        self.link.submit(request)

    def result(self) -> dict[str, Any]:
        """What came of the job.

        Raises:
            RuntimeError: it failed.
        """
        kind, fields = self.answers.get(timeout=PATIENCE_S)
        if kind == "error":
            raise RuntimeError(str(fields["reason"]))
        return dict(fields["metrics"])

    def close(self) -> None:
        """End the process."""
        self.link.close()

    def _heard(self, kind: str, fields: dict[str, Any]) -> None:
        if kind in ("result", "error"):
            self.answers.put((kind, fields))
        elif kind == "note" and self.wire is not None:
            self.wire.put(self, {name: value for name, value in fields.items() if name != "id"})


class Wire:
    """Carries notes between two workers, one after the other, at so many bytes per second."""

    def __init__(self, one: Worker, other: Worker, bytes_per_s: int) -> None:
        self._ends, self._rate = (one, other), bytes_per_s
        self._waiting: queue.Queue[tuple[Worker, dict[str, Any]] | None] = queue.Queue()
        self._said = {id(one): 0, id(other): 0}
        self.bytes = 0
        one.wire = other.wire = self
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def put(self, sender: Worker, note: dict[str, Any]) -> None:
        """Take a note of one end."""
        self._waiting.put((sender, note))

    def close(self) -> None:
        """No more notes."""
        self._waiting.put(None)
        self._thread.join()

    def _carry(self) -> None:
        free_at_s = time.monotonic()
        while (found := self._waiting.get()) is not None:
            sender, note = found
            self.bytes += len(note["data"])
            free_at_s = max(free_at_s, time.monotonic()) + len(note["data"]) / self._rate
            time.sleep(max(0.0, free_at_s - time.monotonic()))
            one, other = self._ends
            (other if sender is one else one).link.tell("note", note)
            self._said[id(sender)] += 1
            sender.link.tell("credit", {"until": self._said[id(sender)] + WINDOW})


def train(worker: Worker, request: Request, base_bytes: int) -> Taken:
    """A job of a board with the whole model."""
    before = cpu_s(worker.pid)
    worker.begin(request)
    metrics = worker.result()
    return Taken(base_bytes, int(metrics["peak_bytes"]), cpu_s(worker.pid) - before, metrics)


def train_halves(
    workers: tuple[Worker, Worker], requests: tuple[Request, Request], bases: tuple[int, int], bytes_per_s: int
) -> tuple[Taken, Taken, int]:
    """A job of a board with a front and of its tail, in this order; also the bytes that crossed."""
    before = [cpu_s(one.pid) for one in workers]
    wire = Wire(*workers, bytes_per_s)
    for worker, request in zip(reversed(workers), reversed(requests), strict=True):
        worker.begin(request)
    metrics = [one.result() for one in workers]
    wire.close()
    used = [cpu_s(one.pid) - was for one, was in zip(workers, before, strict=True)]
    front, back = (Taken(b, int(m["peak_bytes"]), u, m) for b, m, u in zip(bases, metrics, used, strict=True))
    return front, back, wire.bytes


def request(
    given: Given, bundle: Path, name: str, out: Path, settings: Mapping[str, Any], kind: str = "train"
) -> Request:
    """A job of training, or of a tail."""
    job = name + (SUFFIX if kind == "tail" else "")
    where = given.place(bundle)
    return Request(job, kind, 1, (given.digest,), (given.version,), where, str(out), dict(settings))  # type: ignore[arg-type]  # a kind


def cpu_s(pid: int) -> float:
    """Seconds of the processor that a process has used (proc(5), `stat`)."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
