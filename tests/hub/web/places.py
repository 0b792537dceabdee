"""A web server that a test starts, of an authority of its own."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
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
    folder: Path, limits: Limits | None = None, table: Sequence[Route] | None = None, hosts: Sequence[str] = HOSTS
) -> Iterator[Server]:
    """The server, as its clients name it."""
    made = authority.create("farm", folder)
    authority.issue_server(made, list(hosts), folder, "web")
    files = (folder / "web.pem", folder / "web.key", folder / "ca.pem")
    server = WebServer("127.0.0.1", 0, files, table or routes(folder), within(folder), limits)
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
