"""Sockets of the local API: what is slow, too large, too much, or of somebody who may not."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from console.errors import StorageError, TransportError
from edge.local import server, talk
from edge.local.desk import Asked, Reply
from edge.local.server import Server, token, unix_socket
from edge.local.table import Local
from tests.edge.local.programs import ask, raw, rest


@dataclass
class Echo:
    """Answers with what it was asked."""

    gate: threading.Event = field(default_factory=threading.Event)
    inside: int = 0

    def __call__(self, asked: Asked) -> Reply:
        self.inside += 1
        if asked.path == "/wait":
            self.gate.wait(20)
        return Reply(200, {"method": asked.method, "path": asked.path, "bytes": len(asked.body)})


@dataclass
class Listening:
    """A server, and where it is."""

    echo: Echo
    path: Path
    port: int
    token: str


@pytest.fixture
def listening() -> Iterator[Listening]:
    """A server on a Unix socket and on loopback."""
    with tempfile.TemporaryDirectory() as short, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        folder = Path(short)
        echo = Echo()
        made = Server(Local(folder / "a.sock", 0o600, ("127.0.0.1", port), folder / "token"), echo)
        made.start()
        yield Listening(echo, folder / "a.sock", port, (folder / "token").read_text().strip())
        echo.gate.set()
        made.close()


def test_a_connection_stays_open_for_more_requests(listening: Listening) -> None:
    """Two requests in one packet are answered in their order, and the connection waits for another."""
    with raw(listening.path) as program:
        program.sendall(b"GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
        found = b""
        while found.count(b"HTTP/1.1 200") < 2 or b'"bytes": 3' not in found:
            found += program.recv(65536)
        program.sendall(b"GET /c HTTP/1.1\r\nConnection: close\r\n\r\n")
        found += rest(program)

    bodies = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in found.split(b"HTTP/1.1 200 OK")[1:]]
    assert [(b["method"], b["path"], b["bytes"]) for b in bodies] == [
        ("GET", "/a", 0),
        ("POST", "/b", 3),
        ("GET", "/c", 0),
    ]


@pytest.mark.parametrize(
    "begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nX: 1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"]
)
def test_who_is_slow_is_dropped(listening: Listening, begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then buys no time: the connection ends after the patience for the whole, and others go on."""
    for name in ("HEAD_S", "BODY_S"):
        monkeypatch.setattr(talk, name, 1.0)
    started = time.monotonic()
    with raw(listening.path) as program:
        program.sendall(begun)
        ended = False
        while not ended and time.monotonic() < started + 10:
            assert ask(listening.path, "GET", "/")[0] == 200
            try:
                program.sendall(b"x")
                program.settimeout(0.2)
                ended = program.recv(65536) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True

    assert ended
    assert time.monotonic() - started < 5


TOO_MUCH = {
    "a body": (
        b"POST / HTTP/1.1\r\nContent-Length: 8388609\r\n\r\n",
        b" 413 ",
        b"at most 8388608 bytes, found 8388609",
    ),
    "a head": (b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 20_000 + b"\r\n\r\n", b" 431 ", b"at most 16384 bytes"),
    "many lines": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b" 431 ", b""),
    "a line": (b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\n\r\n", b" 431 ", b"at most 16384 bytes"),
    "no length": (b"POST / HTTP/1.1\r\n\r\n", b" 411 ", b"expected Content-Length, found none"),
    "chunks": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b" 411 ", b"found Transfer-Encoding"),
    "two lengths": (
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b" 400 ",
        b"one Content-Length",
    ),
    "a negative length": (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b" 400 ", b"one Content-Length"),
    "another method": (b"DELETE / HTTP/1.1\r\n\r\n", b" 501 ", b""),
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b" 400 ", b""),
}


@pytest.mark.parametrize(("sent", "status", "words"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_is_too_much_is_refused(listening: Listening, sent: bytes, status: bytes, words: bytes) -> None:
    """Nothing of it is kept: it gets its status with one JSON object, and the connection ends."""
    before = listening.echo.inside
    with raw(listening.path) as program:
        program.sendall(sent)
        found = rest(program)

    head, _, body = found.partition(b"\r\n\r\n")
    assert status in head.splitlines()[0]
    assert b"Connection: close" in head
    assert words in json.dumps(json.loads(body)).encode()
    assert listening.echo.inside == before
    assert ask(listening.path, "GET", "/")[0] == 200


def test_there_are_so_many_connections(listening: Listening) -> None:
    """The connection after the last one is told 503 at once; when another ends there is room again."""
    with raw(listening.path) as first:
        others = [raw(listening.path) for _ in range(server.CONNECTIONS - 1)]
        for other in others:
            other.__enter__().sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        first.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        end = time.monotonic() + 10
        while listening.echo.inside < server.CONNECTIONS and time.monotonic() < end:
            time.sleep(0.01)

        with raw(listening.path) as late:
            assert rest(late).startswith(b"HTTP/1.1 503 ")

        listening.echo.gate.set()
        for other in others:
            other.__exit__(None, None, None)
    end = time.monotonic() + 10
    while _status(listening.path) != 200 and time.monotonic() < end:
        time.sleep(0.01)
    assert _status(listening.path) == 200


def _status(path: Path) -> int:
    try:
        return ask(path, "GET", "/")[0]
    except (http.client.HTTPException, ValueError, OSError):
        return 0


def test_bodies_at_the_same_time_have_one_bound(listening: Listening) -> None:
    """While two bodies of 8 MiB are on their way a third gets 503, and is taken when they are gone."""
    head = b"POST / HTTP/1.1\r\nContent-Length: 8388608\r\n\r\n"
    with raw(listening.path) as one, raw(listening.path) as two:
        for program in (one, two):
            program.sendall(head + b"x" * 100_000)
        time.sleep(0.3)
        assert ask(listening.path, "POST", "/", b"y")[0] == 503
        for program in (one, two):
            program.sendall(b"x" * (8388608 - 100_000))
            assert b'"bytes": 8388608' in program.recv(65536) + program.recv(65536)
    assert ask(listening.path, "POST", "/", b"y")[0] == 200


def _over_tcp(listening: Listening, **headers: str) -> tuple[int, dict[str, Any]]:
    client = http.client.HTTPConnection("127.0.0.1", listening.port, timeout=20)
    try:
        client.request("GET", "/v1/health", headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = client.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        client.close()


def test_loopback_wants_the_token_and_no_page_of_a_browser(listening: Listening) -> None:
    """Without the token, or by another name than loopback's (DNS rebinding), or from a page, nothing is answered."""
    good = f"Bearer {listening.token}"
    own = f"127.0.0.1:{listening.port}"

    assert _over_tcp(listening, Authorization=good)[0] == 200
    assert _over_tcp(listening, Authorization=good, Origin=f"http://{own}")[0] == 200
    assert _over_tcp(listening, Authorization=good, Host=f"LOCALHOST:{listening.port}")[0] == 200
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {listening.token}"}):
        status, found = _over_tcp(listening, **headers)
        assert (status, "Bearer and the token of local.token_file" in found["error"]) == (401, True)
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{listening.port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://{own}"},
    ):
        status, found = _over_tcp(listening, Authorization=good, **headers)
        assert (status, "itself, found" in found["error"]) == (403, True)
    assert listening.echo.inside == 3


def test_a_socket_is_for_whom_its_mode_says(tmp_path: Path) -> None:
    """It has its mode before anybody could connect, takes the place of one that was left, and of no other."""
    with tempfile.TemporaryDirectory() as short:
        path = Path(short) / "s"
        left = unix_socket(path, 0o600)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(TransportError, match="something else is there"):
            unix_socket(path, 0o600)
        left.close()
        unix_socket(path, 0o660).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        path.unlink()
        path.write_text("mine")
        with pytest.raises(TransportError, match="something else is there"):
            unix_socket(path, 0o600)
        assert path.read_text() == "mine"
        assert os.listdir(short) == ["s"]  # noqa: PTH208  # names alone
    with pytest.raises(TransportError, match="expected a path of at most 103 bytes"):
        unix_socket(tmp_path / ("x" * 100), 0o600)


def test_a_token_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    """The first start makes it with mode 0600, the next one reads it, and one that is too short is refused."""
    path = tmp_path / "token"
    first = token(path)

    assert (token(path), len(first) >= 32, stat.S_IMODE(path.stat().st_mode)) == (first, True, 0o600)
    path.write_text("guess\n")
    with pytest.raises(StorageError, match="expected a token of at least 16 characters"):
        token(path)
