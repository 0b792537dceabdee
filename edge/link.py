"""The core's side of the worker: started when there is work, ended when there is none, replaced when it dies."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from console.errors import BadData
from console.private import SILENT
from console.table import mib
from devices.malloc import MALLOC
from edge.memory import memory
from edge.notice import without
from edge.request import Request, read_frame, write_frame

if TYPE_CHECKING:
    import subprocess

log = logging.getLogger("edgequilt.agent")
Emit = Callable[[str, dict[str, Any]], None]  # progress, note, taken, result or error, and its fields
WATCH_EVERY_S = 0.2


class Job(Protocol):
    """What a worker is asked: a record with a name that its answers carry."""

    @property
    def id(self) -> str:
        """Its name."""


class Link(Protocol):
    """Somebody who does jobs and tells how they went."""

    budget_bytes: int | None  # that a job may use at its peak

    def start(self, emit: Emit) -> None:
        """Say where answers go; they may come from another thread."""

    def submit(self, request: Request) -> None:
        """Begin a job; one at a time."""

    def tell(self, kind: str, fields: dict[str, Any]) -> None:
        """Say something to the worker about the job that it does; `taken` comes for each note that it has taken."""

    def stop(self) -> None:
        """Drop the job that runs; no answer comes."""

    def hold(self, why: str) -> None:
        """Pause the worker, between two instructions, until every reason to is gone; from any thread."""

    def release(self, why: str) -> None:
        """That reason is gone."""

    def poll(self) -> float | None:
        """Look after the worker; returns when to look again, in seconds."""

    def close(self) -> None:
        """End the worker."""

    def another(self) -> Link:
        """One of the same kind, with a worker of its own."""


class WorkerLink:
    """One worker process at a time."""

    def __init__(
        self,
        budget_bytes: int | None = None,
        idle_s: float = 20.0,
        threads: int = 1,
        command: Sequence[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        nice: int = 0,
    ) -> None:
        self.budget_bytes, self.idle_s, self.threads, self._clock = budget_bytes, idle_s, threads, clock
        self.nice = nice
        self._command = list(command or (sys.executable, "-m", "edge.worker"))
        self._emit: Emit = lambda kind, fields: None
        self._worker: _Worker | None = None
        self._used_at = 0.0
        self._holding, self._held = threading.Lock(), set[str]()

    @property
    def pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        return self._worker.process.pid if self._worker is not None and self._worker.alive else None

    def start(self, emit: Emit) -> None:
        """Say where answers go."""
        self._emit = emit

    def another(self) -> WorkerLink:
        """One like this, with a worker process of its own."""
        return WorkerLink(self.budget_bytes, self.idle_s, self.threads, self._command, self._clock, self.nice)

    @property
    def busy(self) -> bool:
        """Whether a job is being done."""
        return self._worker is not None and self._worker.busy is not None

    def submit(self, request: Job, blobs: Sequence[bytes] = ()) -> None:
        """Begin a job, in a new process if there is none; `blobs` follow the request as they are."""
        self._used_at = self._clock()
        if self._worker is None or not self._worker.alive:
            try:
                self._worker = _Worker(self._command, environment(self.threads), self._emit, self.nice)
            except OSError as error:
                reason = f"expected to start a worker, but the system said: {error.strerror}; free some memory"
                self._emit("error", {"id": request.id, "reason": reason})
                return
            log.info("worker %d started", self._worker.process.pid)
        self._worker.submit(request, blobs)
        with self._holding:
            if self._held:
                self._worker.signal(signal.SIGSTOP)

    def tell(self, kind: str, fields: dict[str, Any]) -> None:
        """Say something to the worker about its job; it is written when the worker reads it."""
        if self._worker is not None:
            self._worker.tell(kind, fields)

    def hold(self, why: str) -> None:
        """Pause the worker (SIGSTOP): whoever is asked for something in the meantime has the board to himself."""
        with self._holding:
            self._held.add(why)
            if self._worker is not None:
                self._worker.signal(signal.SIGSTOP)

    def release(self, why: str) -> None:
        """That reason is gone; without another one the worker goes on."""
        with self._holding:
            self._held.discard(why)
            if self._worker is not None and not self._held:
                self._worker.signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill the worker; its job gets no answer."""
        if self._worker is not None:
            self._worker.end(kill=True)
            self._worker = None

    def poll(self) -> float | None:
        """Kill a worker above its budget, end one that is idle."""
        worker = self._worker
        if worker is None or not worker.alive:
            return None
        if worker.busy is not None:
            self._used_at = self._clock()
            peak = memory(worker.process.pid).get("peak_bytes", 0)
            if self.budget_bytes and peak > self.budget_bytes:
                worker.kill_because(
                    f"expected the worker to stay within {mib(self.budget_bytes)}, found a peak of {mib(peak)}; "
                    f"export for a larger board, or with a smaller micro-batch"
                )
            return WATCH_EVERY_S
        left = self.idle_s - (self._clock() - self._used_at)
        if left > 0:
            return left
        log.info("worker %d is idle and ends", worker.process.pid)
        worker.end()
        self._worker = None
        return None

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.end(kill=self._worker.busy is not None)
            self._worker = None


class _Worker:
    """One process, and the thread that reads its answers."""

    def __init__(self, command: list[str], environment: dict[str, str], emit: Emit, nice: int = 0) -> None:
        import subprocess  # only an agent that has worked pays for it

        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        if nice:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self.process.pid, nice)
        self._requests = cast("IO[bytes]", self.process.stdin)
        self._answers = cast("IO[bytes]", self.process.stdout)
        self.busy: str | None = None
        self._why = ""
        self._emit = emit
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._told: queue.SimpleQueue[tuple[str, str, dict[str, Any]] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._reader = threading.Thread(target=self._read, name=f"worker-{self.process.pid}", daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def submit(self, request: Job, blobs: Sequence[bytes]) -> None:
        with self._lock:
            self.busy = request.id
        try:
            with self._writing:
                write_frame(self._requests, "request", request)
                for blob in blobs:
                    self._requests.write(blob)
                self._requests.flush()
        except OSError:
            self.process.kill()  # the reader sees the end and answers for it

    def tell(self, kind: str, fields: dict[str, Any]) -> None:
        if self._writer is None:  # a worker that computes does not read: whoever writes to it waits
            self._writer = threading.Thread(target=self._write, name=f"to-worker-{self.process.pid}", daemon=True)
            self._writer.start()
        self._told.put((self.busy or "", kind, fields))

    def _write(self) -> None:
        while (told := self._told.get()) is not None:
            job, kind, fields = told
            if job != self.busy:
                continue
            try:
                with self._writing:
                    write_frame(self._requests, kind, fields)
            except (OSError, ValueError):  # it has ended, which the reader sees
                return
            if kind == "note":
                self._emit("taken", {"id": job})

    def signal(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self.process.send_signal(number)  # none to a process that has ended

    def kill_because(self, why: str) -> None:
        self._why = why
        self.process.kill()

    def end(self, kill: bool = False) -> None:
        import subprocess

        with self._lock:
            self.busy = None
        self._told.put(None)
        try:
            if kill:  # first: whoever still writes to it waits until it reads or is gone
                self.process.kill()
            self._requests.close()
            self.signal(signal.SIGCONT)  # one that is paused would not hear of its end
            self.process.wait(timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()

    def _read(self) -> None:
        try:
            while (frame := read_frame(self._answers)) is not None:
                self._answer(*frame)
        except (BadData, OSError, ValueError) as error:
            self._why = self._why or f"the worker said something that is no answer ({error})"
            self.process.kill()
        code = self.process.wait()
        if self.busy is not None:
            self._answer("error", {"id": self.busy, "reason": self._why or _ending(code)})

    def _answer(self, kind: str, fields: dict[str, Any]) -> None:
        with self._lock:
            if self.busy is None or fields.get("id") != self.busy:
                return
            if kind not in ("progress", "note"):
                self.busy = None
        self._emit(kind, fields)


def _ending(code: int) -> str:
    if code < 0:
        return (
            f"the worker was ended by {signal.Signals(-code).name} in the middle of the job; if the board ran out of "
            f"memory, export for a smaller budget"
        )
    return f"the worker ended with exit code {code} in the middle of the job; its messages are in the agent's log"


def environment(threads: int) -> dict[str, str]:
    """A worker's: few threads, few allocator arenas, freed blocks go back; a board's memory is worth more than time."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    wanted = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        **MALLOC,
        "TOKENIZERS_PARALLELISM": "false",
    }
    return {**SILENT, **without(os.environ), **wanted}
