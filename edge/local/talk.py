"""One connection of a local program: HTTP/1.1 by the standard library, with bounds on everything (docs/local-api.md).

Loaded when the first program connects: an agent that nobody asks does not have http.server in its memory.
"""

from __future__ import annotations

import hmac
import io
import json
import re
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from edge.local.desk import Asked, Reply
from edge.local.refused import Refused
from edge.local.room import Room
from edge.local.wire import TooMuch, Wire

HEAD_BYTES, HEAD_S = 16 << 10, 15.0  # a connection that says nothing is closed, too
BODY_BYTES, BODY_S = 8 << 20, 20.0
SEND_S = 20.0
BUFFER_BYTES = 8 << 10
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_LENGTH = re.compile(r"\d{1,12}")


class Talk(BaseHTTPRequestHandler):
    """Requests of a connection, one after the other.

    Args:
        connection: the socket.
        answer: what is answered.
        room: for bodies that are read at the same time.
        port: of loopback; None: a Unix socket, whose mode says who may ask.
        token: that programs on loopback must know.
    """

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "edgequilt", ""

    def __init__(
        self,
        connection: socket.socket,
        answer: Callable[[Asked], Reply],
        room: Room,
        port: int | None = None,
        token: str = "",
    ) -> None:
        self._answer, self._room, self._port, self._token = answer, room, port, token
        super().__init__(connection, ("local", 0), None)  # type: ignore[arg-type]  # no server of socketserver

    def setup(self) -> None:
        """Read and write within bounds."""
        self.connection = self.request
        self._wire = Wire(self.connection)
        self.rfile = io.BufferedReader(self._wire, BUFFER_BYTES)
        self.wfile = _Out(self.connection)

    def finish(self) -> None:
        """Whoever started the thread closes the socket."""

    def handle_one_request(self) -> None:
        """One request, or the end of the connection."""
        self._wire.fresh(HEAD_S, HEAD_BYTES)
        self.requestline, self.command, self.request_version = "", "", self.protocol_version  # an error needs them
        try:
            super().handle_one_request()
        except TooMuch:
            self.close_connection = True
            self.send_error(431, f"expected a head of at most {HEAD_BYTES} bytes, found more")

    def do_GET(self) -> None:  # http.server calls it by the method's name
        """Answer."""
        self._reply()

    def do_POST(self) -> None:
        """Answer."""
        self._reply()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """As JSON, like every other answer; the connection ends, since what follows cannot be told apart."""
        self.close_connection = True
        self._send(Reply(int(code), {"error": message or explain or "the request cannot be read"}))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        """Nothing of a request is logged."""

    def _reply(self) -> None:
        try:
            self._admit()
            length = self._length()
            with self._room.of(length):
                body = self._body(length)
                reply = self._answer(Asked(self.command, self.path, self.headers.get("Content-Type", ""), body))
        except Refused as refused:
            self.close_connection = True  # its body was not read
            reply = Reply(refused.status, {"error": str(refused)})
        self._send(reply)

    def _admit(self) -> None:
        """Of loopback: whoever knows the token, and no page of a browser, whatever name it reached us by."""
        if self._port is None:
            return
        names = {f"{name}:{self._port}" for name in LOOPBACK}
        host = self.headers.get("Host", "").lower()
        origin = self.headers.get("Origin")
        if host not in names or (origin is not None and origin.lower() not in {f"http://{name}" for name in names}):
            raise Refused(403, f"expected a request to 127.0.0.1:{self._port} itself, found {(origin or host)[:80]!r}")
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token.encode()):
            raise Refused(
                401, "expected Authorization: Bearer and the token of local.token_file, found another or none"
            )

    def _length(self) -> int:
        if self.headers.get("Transfer-Encoding") is not None:
            raise Refused(411, "expected Content-Length, found Transfer-Encoding; send the body as a whole")
        given = self.headers.get_all("Content-Length", [])
        if not given:
            if self.command == "POST":
                raise Refused(411, "expected Content-Length, found none")
            return 0
        if len(given) > 1 or not _LENGTH.fullmatch(given[0].strip()):
            raise Refused(400, f"expected one Content-Length in bytes, found {', '.join(given)[:60]!r}")
        length = int(given[0])
        if length > BODY_BYTES:
            raise Refused(413, f"expected a body of at most {BODY_BYTES} bytes, found {length}; make it smaller")
        return length

    def _body(self, length: int) -> bytes:
        self._wire.fresh(BODY_S, length + BUFFER_BYTES)
        body = self.rfile.read(length)
        if len(body) < length:
            raise Refused(400, f"expected a body of {length} bytes, found {len(body)}")
        return body

    def _send(self, reply: Reply) -> None:
        body = json.dumps(reply.body, ensure_ascii=False).encode(errors="replace") + b"\n"
        self.connection.settimeout(SEND_S)
        self.request_version = self.protocol_version  # or what speaks no HTTP would get no head
        self.send_response(reply.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
        if reply.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Out(io.BufferedIOBase):
    """What goes out on a socket, whole or not at all."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._connection.sendall(data)
        return len(data)
