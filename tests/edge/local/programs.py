"""Local programs, as tests see them: raw sockets and requests over a Unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Unix(http.client.HTTPConnection):
    """The standard library's client over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._at = str(path)

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(self._at)


def ask(
    path: Path, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """One request; a body that is not bytes goes as JSON."""
    client = Unix(path)
    try:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        client.request(method, url, data, headers or {})
        answer = client.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        client.close()


@contextmanager
def raw(path: Path, timeout_s: float = 60) -> Iterator[socket.socket]:
    """A connection without any words."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.settimeout(timeout_s)
        made.connect(str(path))
        yield made


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other side ends."""
    found = b""
    while part := connection.recv(65536):
        found += part
    return found
