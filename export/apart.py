"""Work in a child process that is forked, so that its memory is not the exporter's and a crash is not its end.

Checking runs sessions of the original and of every segment, which hold weights that the exporter itself never
reads as a whole. The child has the exporter's objects as they are; what it finds out comes back as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from console import errors
from console.errors import EdgequiltError, StorageError, VerificationError
from export.sources.folder import first_line
from export.stoppable import held

LIMIT_S = 7200.0  # a Loop may be endless, and nobody can tell before
GRACE_S = 2.0  # for a child to end its own processes


def apart(work: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """Call a function in a forked child and return what it returned; it must be JSON.

    In such a child it is called as it is: its memory is not the exporter's already.

    Raises:
        EdgequiltError: the one that the function raised.
        StorageError: it could not read or write a file.
        VerificationError: the child ended without an answer (it was killed, or crashed), or took longer than
            `limit_s`.
    """
    if multiprocessing.current_process().daemon:
        return work()
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=_child, args=(work, sender, signal.getsignal(signal.SIGTERM)), daemon=True)
    try:
        with held():  # a child that nobody knows of would run on
            child.start()
        sender.close()
        if not receiver.poll(limit_s):
            raise VerificationError(f"expected the graphs to run within {limit_s:g} s, found that they had not ended")
        answer = json.loads(receiver.recv_bytes())
    except EOFError:
        child.join()
        raise VerificationError(f"expected the graphs to run, but {_end(child.exitcode)}") from None
    except BaseException:
        if child.pid is not None:
            child.terminate()
            child.join(GRACE_S)
            child.kill()
        raise
    finally:
        if child.pid is not None:
            child.join()
        receiver.close()
    if "error" in answer:
        kind = getattr(errors, answer["kind"], EdgequiltError)
        raise kind(answer["error"])
    return answer["found"]


def _child(work: Callable[[], Any], sender: Connection, stopped: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, stopped)
    try:
        answer: dict[str, Any] = {"found": work()}
    except EdgequiltError as error:
        known = next(k for k in type(error).__mro__ if hasattr(errors, k.__name__))
        answer = {"kind": known.__name__, "error": str(error)}
    except OSError as error:
        text = f"expected to read and write files while checking, stopped ({first_line(error)}); is the disk full?"
        answer = {"kind": StorageError.__name__, "error": text}
    except Exception as error:  # noqa: BLE001  # a runtime's errors have no common class, and this is the child's end
        text = f"expected the graphs to run, found that they do not ({first_line(error)}); report this model"
        answer = {"kind": VerificationError.__name__, "error": text}
    sender.send_bytes(json.dumps(answer).encode())
    sender.close()


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the process that checked them was ended by signal {-code}; is there enough memory?"
    return f"the process that checked them stopped with code {code}; the lines above say where"
