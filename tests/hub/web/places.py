"""A web server that a test starts, of an authority of its own."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hub import authority
from hub.web.authority import authorities
from hub.web.limits import Limits
from hub.web.routes import Answer, Asked, Route, Within, as_json
from hub.web.server import WebServer
from wire.https import Server
from wire.tls import client_context, new_request

HOSTS = ("127.0.0.1", "localhost")
DEVICES = {"barn": {"revoked": False}, "coop": {"revoked": True}}


def whoever(within: Within, asked: Asked) -> Answer:
    """Says who asked, and what."""
    return as_json({"device": asked.device, "query": dict(asked.query), "bytes": len(asked.body)})


def broken(within: Within, asked: Asked) -> Answer:
    """A handler with a fault."""
    raise ZeroDivisionError("a secret")


def routes(folder: Path) -> list[Route]:
    """What is served."""
    return [
        Route("GET", "/ca.pem", False, authorities),
        Route("GET", "/who", False, whoever),
        Route("POST", "/who", False, whoever, body_bytes=1000),
        Route("GET", "/mine", True, whoever),
        Route("GET", "/broken", False, broken),
        Route("GET", "/rare", False, whoever, limited=True),
        Route("POST", "/late", False, whoever, deadline_s=0.3),
        Route("GET", "/blob", False, lambda within, asked: Answer(file=folder / "blob")),
    ]


def within(folder: Path) -> Within:
    """A service that knows two devices."""
    ledger = SimpleNamespace(device=DEVICES.get)
    home = SimpleNamespace(ledger=ledger, folder=folder)

    def call(function: Callable[[Any], Any]) -> Any:
        return function(SimpleNamespace(home=home))

    return call


@contextmanager
def serving(
    folder: Path,
    limits: Limits | None = None,
    hosts: Sequence[str] = HOSTS,
    files: tuple[bytes, bytes] | None = None,
) -> Iterator[Server]:
    """The server, as its clients name it; `files`: a certificate and its key instead of good ones."""
    made = authority.create("farm", folder)
    authority.issue_server(made, list(hosts), folder, "web")
    pem, key = folder / "web.pem", folder / "web.key"
    if files is not None:
        pem.write_bytes(files[0])
        key.write_bytes(files[1])
    server = WebServer("127.0.0.1", 0, (pem, key, folder / "ca.pem"), routes(folder), within(folder), limits)
    with closing(server):
        yield Server("127.0.0.1", server.port, folder / "ca.pem")


def shown(server: Server, folder: Path, name: str, days: int = 10) -> Server:
    """The same server, for a client with a certificate of the fleet."""
    key, request = new_request(name, folder)
    path = folder / f"{name}.pem"
    path.write_bytes(authority.issue_device(authority.load(folder), name, request.read_bytes(), days))
    return Server(server.host, server.port, server.ca, path, key)


@contextmanager
def connection(server: Server) -> Iterator[ssl.SSLSocket]:
    """A bare connection, to say what no client would."""
    context = client_context(server.ca)
    with (
        socket.create_connection((server.host, server.port), 10) as plain,
        context.wrap_socket(plain, server_hostname=server.host) as made,
    ):
        yield made


def everything(made: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    data = b""
    while True:
        try:
            block = made.recv(65536)
        except ConnectionError:
            return data
        if not block:
            return data
        data += block


class Relay:
    """Passes connections on, and counts them."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target, self.connections = (host, int(port)), 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                far = socket.create_connection(self._target)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(65536):
            sink.sendall(block)
        sink.shutdown(socket.SHUT_WR)


def listening() -> socket.socket:
    """A free port of this machine."""
    return socket.create_server(("127.0.0.1", 0))
