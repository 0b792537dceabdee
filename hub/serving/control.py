"""The local socket of a running hub: one JSON line in, one JSON line out, for the user who started it only.

A Unix socket's path may have 107 bytes at most (sun_path). Where the hub's folder is deeper, the socket lies in a
private folder below the system's temporary one; `control.path` in the hub's folder says where.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.errors import EdgequiltError, HubError, error_named
from wire.files import write_atomic
from wire.json_text import parse_json

log = logging.getLogger("edgequilt.hub")
PATH_LIMIT_BYTES = 100
LINE_LIMIT_BYTES = 1 << 20
TIMEOUT_S = 120.0
Row = dict[str, Any]


class ControlServer:
    """Takes requests on a thread and hands each to `answer`, which must be safe to call from there."""

    def __init__(self, folder: Path, answer: Callable[[Row], Row]) -> None:
        self.folder, self._answer = folder, answer
        self._private: Path | None = None
        self.path = self._choose()
        self.path.unlink(missing_ok=True)  # of a hub that was killed; the folder's lock says that it is gone
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self._socket.bind(str(self.path))
        finally:
            os.umask(before)
        self._socket.listen(16)
        write_atomic(folder / "control.path", str(self.path).encode())
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def close(self) -> None:
        """Stop taking requests and remove the socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.path.unlink(missing_ok=True)
        (self.folder / "control.path").unlink(missing_ok=True)
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)

    def _choose(self) -> Path:
        path = (self.folder / "control.sock").resolve()
        if len(os.fsencode(path)) <= PATH_LIMIT_BYTES:
            return path
        self._private = Path(tempfile.mkdtemp(prefix="edgequilt-", dir=_short_folder()))  # mode 0700
        return self._private / "control.sock"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(connection,), name="control-request", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(TIMEOUT_S)
            try:
                request = parse_json(_read_line(connection), finite=False)
                reply = {"ok": self._answer(request)}
            except EdgequiltError as error:
                reply = {"error": {"class": type(error).__name__, "sentence": str(error)}}
            except (ValueError, OSError) as error:
                reply = {
                    "error": {"class": "UsageError", "sentence": f"expected a request as a line of JSON ({error})"}
                }
            except Exception as error:
                log.exception("a request failed")
                reply = {
                    "error": {"class": "HubError", "sentence": f"the hub could not answer: {error!r}; see its log"}
                }
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(reply).encode() + b"\n")


def is_running(folder: Path) -> bool:
    """Whether a hub answers in this folder."""
    try:
        with _connect(folder):
            return True
    except OSError:
        return False


def ask(folder: Path, request: Row) -> Row:
    """Ask a running hub.

    Raises:
        HubError: no hub runs on this folder, or it stopped before it answered.
        EdgequiltError: what the hub says, with its class.
    """
    try:
        connection = _connect(folder)
    except OSError as error:
        raise HubError(
            f"expected a running hub on {folder}, found none; start it with `edgequilt hub up {folder}`"
        ) from error
    with connection:
        try:
            connection.settimeout(TIMEOUT_S)
            connection.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(_read_line(connection))
        except (OSError, ValueError) as error:
            raise HubError(
                f"expected an answer of the hub on {folder}, the connection ended ({error}); ask again"
            ) from error
    if "error" in reply:
        told = reply["error"]
        raise error_named(str(told.get("class")), str(told.get("sentence", "")))
    return dict(reply["ok"])


def _connect(folder: Path) -> socket.socket:
    path = (folder / "control.path").read_text()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _short_folder() -> str | None:
    """The temporary folder, unless it is itself too deep."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) < 60 else "/tmp"  # noqa: S108  # a private folder is made below it


def _read_line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        block = connection.recv(65536)
        if not block:
            raise ValueError("the line has no end")
        data += block
        if len(data) > LINE_LIMIT_BYTES * 16:
            raise ValueError("the line is too long")
    return data
