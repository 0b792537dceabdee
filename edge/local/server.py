"""Where local programs connect: a Unix socket and, if that was asked for, a port of loopback."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from console.errors import StorageError, TransportError
from edge.local.room import Room
from wire.files import read_bytes, write_atomic

if TYPE_CHECKING:
    from edge.local.desk import Asked, Reply
    from edge.local.table import Local

log = logging.getLogger("edgequilt.agent")
CONNECTIONS = 16
PATH_BYTES = 107  # of a Unix socket (unix(7))
LINGER_S, LINGER_BYTES = 1.0, 1 << 20
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Server:
    """Listens in a thread of its own; every connection is another one, and there are few.

    Args:
        local: where to listen.
        answer: what is answered; any thread may call it.

    Raises:
        TransportError: it cannot listen there.
    """

    def __init__(self, local: Local, answer: Callable[[Asked], Reply]) -> None:
        self._answer, self._room = answer, Room()
        self._sockets: list[tuple[socket.socket, int | None]] = []
        self._token, self._path = "", local.socket
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="local-api", daemon=True)
        try:
            if local.socket is not None:
                self._sockets.append((unix_socket(local.socket, local.mode), None))
            if local.http is not None:
                self._token = token(local.token_file)
                self._sockets.append((_loopback(local.http), local.http[1]))
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Take connections."""
        self._thread.start()

    def close(self) -> None:
        """Take no more, and end those that are open."""
        self._wake.close()
        if self._thread.is_alive():
            self._thread.join(5)
        for listening, port in self._sockets:
            listening.close()
            if port is None and self._path is not None:
                self._path.unlink(missing_ok=True)
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._woken.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ, None)
            for listening, port in self._sockets:
                selector.register(listening, selectors.EVENT_READ, (listening, port))
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    self._accept(*key.data)

    def _accept(self, listening: socket.socket, port: int | None) -> None:
        try:
            connection, _ = listening.accept()
        except OSError as error:  # whoever connected is gone, or there are too many files open
            log.debug("no connection: %s", error)
            return
        with self._lock:
            full = len(self._open) >= CONNECTIONS
            if not full:
                self._open.add(connection)
        if full:
            connection.setblocking(False)
            with contextlib.suppress(OSError), connection:
                connection.send(FULL)
            return
        try:
            threading.Thread(target=self._talk, args=(connection, port), name="local-program", daemon=True).start()
        except RuntimeError:  # no room for another thread
            self._done(connection)

    def _talk(self, connection: socket.socket, port: int | None) -> None:
        from edge.local.talk import Talk

        try:
            Talk(connection, self._answer, self._room, port, self._token)
            _linger(connection)
        except OSError:  # it is gone, or too slow
            pass
        except Exception:  # whatever comes, the agent goes on
            log.exception("a local program could not be answered")
        finally:
            self._done(connection)

    def _done(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)
        connection.close()


def _linger(connection: socket.socket) -> None:
    """Let the other side read what it was told last: a socket that is closed before all was read takes that away."""
    connection.shutdown(socket.SHUT_WR)
    ends_at, left = time.monotonic() + LINGER_S, LINGER_BYTES
    while left > 0 and (left_s := ends_at - time.monotonic()) > 0:
        connection.settimeout(left_s)
        part = connection.recv(1 << 16)
        if not part:
            return
        left -= len(part)


def unix_socket(path: Path, mode: int) -> socket.socket:
    """A socket that listens at a path, which nobody could open before it had its mode.

    Raises:
        TransportError: it cannot be there.
    """
    if len(os.fsencode(path)) > PATH_BYTES - len(".new"):
        raise TransportError(
            f"expected a path of at most {PATH_BYTES - 4} bytes for the local socket, found {path}; set local.socket"
        )
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fresh = path.with_name(f"{path.name}.new")
    try:
        if path.exists() and (not stat.S_ISSOCK(path.lstat().st_mode) or _is_heard(path)):
            raise FileExistsError(0, "something else is there")
        fresh.unlink(missing_ok=True)
        made.bind(str(fresh))  # nobody listens there yet
        fresh.chmod(mode)
        made.listen(CONNECTIONS)
        fresh.replace(path)
    except OSError as error:
        made.close()
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise TransportError(
            f"expected to listen at {path}, but the system said: {error.strerror}; set local.socket"
        ) from error
    made.setblocking(False)
    return made


def _is_heard(path: Path) -> bool:
    """Whether somebody listens at a socket that is there: what a killed agent left has nobody behind it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(1)
        return other.connect_ex(str(path)) == 0


def _loopback(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(CONNECTIONS)
    except OSError as error:
        made.close()
        raise TransportError(
            f"expected to listen on {address[0]}:{address[1]}, but the system said: {error.strerror}; choose another "
            "port for local.http"
        ) from error
    made.setblocking(False)
    return made


def token(path: Path) -> str:
    """The secret of a file; it is made if there is none.

    Raises:
        StorageError: it cannot be read or written, or it is too short to be one.
    """
    if not path.exists():
        write_atomic(path, f"{secrets.token_urlsafe(32)}\n".encode(), mode=0o600)
    found = read_bytes(path, "the token of the local API", 4096).decode(errors="replace").strip()
    if len(found) < 16:
        raise StorageError(f"expected a token of at least 16 characters in {path}, found {len(found)}; delete the file")
    return found
