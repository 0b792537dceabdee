"""The worker process (`python -m edge.worker`): computes what the core asks, and ends with it.

Frames come on stdin and go to what was stdout; file descriptor 1 itself becomes stderr, so that a stray print of
some library cannot end up between two frames.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import resource
import signal
import sys
import time
from typing import IO, TYPE_CHECKING, Any

from console.errors import EdgequiltError
from edge.memory import AnonymousPeak, forget_peak, memory
from edge.request import Request, Requests, read_frame, write_frame
from edge.split.channel import PeerGone
from wire.record import read_record

if TYPE_CHECKING:
    from edge.jobs import Desk

_PR_SET_PDEATHSIG = 1
PROGRESS_EVERY_S = 0.5


def main() -> int:
    """Serve until stdin ends; returns the exit code."""
    answers = private_stdout()
    end_with_parent()
    leave_no_image()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the core decides when we end
    hash_without_openssl()
    from edge.jobs import Desk

    desk, requests = Desk(), Requests(0)
    while (frame := read_frame(requests)) is not None:
        if frame[0] == "request":  # and not what the other half said of a job that is over
            _serve(desk, frame[1], answers, requests)
    return 0


def _serve(desk: Desk, fields: dict[str, Any], answers: IO[bytes], requests: Requests) -> None:
    from edge.jobs import perform
    from edge.split.told import KINDS, SETTING  # keys are known by their digests: not before hashlib is without OpenSSL

    forget_peak()
    watch, told = AnonymousPeak(), [0.0]

    def advance(done: float, of: float) -> None:
        if time.monotonic() - told[0] > PROGRESS_EVERY_S:
            told[0] = time.monotonic()
            write_frame(answers, "progress", {"id": fields.get("id"), "done": done, "of": of})

    try:
        if fields.get("kind") in KINDS and dict(fields.get("settings") or {}).get(SETTING):
            from edge.split.pipe import PipeChannel

            desk.channel = PipeChannel(requests, answers, str(fields.get("id")))
            desk.word = lambda text: write_frame(answers, "progress", {"id": fields.get("id"), "word": text})
        result = perform(desk, read_record(Request, fields, "a request of the core"), advance)
        memory_used = {"peak_bytes": memory().get("peak_bytes", 0), "anon_bytes": watch.stop()}
        answer = {"id": result.id, "samples": result.samples, "metrics": {**result.metrics, **memory_used}}
        write_frame(answers, "result", answer)
    except Exception as error:  # noqa: BLE001  # whatever a job does, the worker answers and stays
        known = isinstance(error, EdgequiltError)
        reason = str(error) if known else f"{type(error).__name__}: {str(error)[:300]}"
        write_frame(answers, "error", {"id": fields.get("id"), "reason": reason, "peer": isinstance(error, PeerGone)})
        if isinstance(error, MemoryError):
            sys.exit(1)
    finally:
        watch.stop()
        desk.channel = None
        if desk.runner is not None:  # a session that stays open would add its arena to what the next job prepares
            desk.runner.close()


def private_stdout() -> IO[bytes]:
    """What was stdout, for answers alone; from here on file descriptor 1 is stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def hash_without_openssl() -> None:
    """Have hashlib use Python's own SHA-256 for the one bundle that a worker checks: 3.4 MiB less of every budget."""
    own = ("_sha2", "_sha256")  # from Python 3.12 on, and before
    if "hashlib" not in sys.modules and any(importlib.util.find_spec(name) for name in own):
        sys.modules["_hashlib"] = None  # type: ignore[assignment]  # how the import system is told "not there"


def leave_no_image() -> None:
    """A worker that crashes again and again must not fill the disk with images of its memory."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end_with_parent() -> None:
    """Have the kernel kill us when the core dies (prctl(2)); the end of stdin does it elsewhere."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died between the two lines
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
