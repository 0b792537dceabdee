"""The hub's web server: who is let in, what bounds hold, what clients are told."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import socket
import ssl
from pathlib import Path

import pytest

from console.errors import SignatureError, TransportError
from hub import authority
from hub.web.limits import Limits
from tests.hub.web.places import connection, everything, serving, shown
from wire.https import Refused, Server, fetch_authority, get_json, get_range, post_json


def answered(server: Server) -> bool:
    """Whether the server answers, once it has noticed that connections ended."""
    for _ in range(500):
        with contextlib.suppress(TransportError):
            return bool(get_json(server, "/who")["query"] == {})
    return False


def test_a_certificate_of_the_fleet_names_its_device(tmp_path: Path) -> None:
    """Without a certificate a client is nobody; with one it is who the certificate says, unless it is revoked."""
    with serving(tmp_path) as server:
        assert get_json(server, "/who")["device"] == ""
        with pytest.raises(Refused, match="expected a certificate of this fleet, found none") as refused:
            get_json(server, "/mine")
        assert refused.value.status == 401
        assert get_json(shown(server, tmp_path, "barn"), "/mine")["device"] == "barn"
        for name in ("coop", "mill"):
            with pytest.raises(Refused, match="expected a device that is enrolled and not revoked") as refused:
                get_json(shown(server, tmp_path, name), "/mine")
            assert refused.value.status == 403


def test_a_certificate_of_somebody_else_does_not_come_in(tmp_path: Path) -> None:
    """A client of another authority, or with a certificate that has run out, gets no connection."""
    other = tmp_path / "other"
    authority.create("farm", other)
    with serving(tmp_path) as server:
        foreign = shown(server, other, "barn")
        with pytest.raises(TransportError, match="found none"):
            get_json(foreign, "/who")
        with pytest.raises(TransportError, match="found none"):
            get_json(shown(server, tmp_path, "barn", days=-1), "/who")


def test_a_client_believes_only_its_fleet(tmp_path: Path) -> None:
    """A hub of another authority is not asked anything; the name it is reached by must be in its certificate."""
    other = authority.create("farm", tmp_path / "other").pem.decode()
    with serving(tmp_path) as server, pytest.raises(TransportError, match="a certificate that does not hold"):
        get_json(Server(server.host, server.port, other), "/who")
    with serving(tmp_path, hosts=["hub.example"]) as server, pytest.raises(TransportError, match="IP address mismatch"):
        get_json(server, "/who")


def test_an_authority_is_taken_by_its_fingerprint(tmp_path: Path) -> None:
    """Of all certificates that a hub offers, the one with the fingerprint is believed; without one nobody is."""
    with serving(tmp_path) as server:
        old = authority.create("farm", tmp_path / "old")
        mine = authority.load(tmp_path)
        (tmp_path / "ca.pem").write_bytes(old.pem + mine.pem)
        pem = fetch_authority(server.host, server.port, mine.fingerprint)
        assert pem.encode() == mine.pem
        assert get_json(Server(server.host, server.port, pem), "/who")["device"] == ""
        with pytest.raises(SignatureError, match="found another hub or somebody in between"):
            fetch_authority(server.host, server.port, "00" * 32)


def test_what_is_wrong_is_a_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Errors are JSON with a sentence and a status; a fault of the hub says nothing of its inside."""
    with serving(tmp_path) as server:
        found = []
        for path in ("/none", "/broken"):
            with pytest.raises(Refused) as refused:
                get_json(server, path)
            found.append((refused.value.status, str(refused.value)))
        assert found == [
            (404, "expected a path that this hub serves, found another; use the same edgequilt as the hub"),
            (500, "expected to answer, the hub could not; see its log"),
        ]
        with pytest.raises(Refused) as refused:
            post_json(server, "/rare", {})
        assert refused.value.status == 405
        for said in (b"\x00\x01\x02\r\n\r\n", b"GET /who HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n"):
            with connection(server) as made:
                made.sendall(said)
                head, _, body = everything(made).partition(b"\r\n\r\n")
                assert b" 400 " in head.splitlines()[0]
                assert json.loads(body) == {"error": "expected a request of HTTP/1.1"}


def test_a_body_has_a_limit(tmp_path: Path) -> None:
    """A body that is too long is refused, by its declared length at once, without one when it is exceeded."""
    with serving(tmp_path) as server:
        assert post_json(server, "/who", "x" * 900)["bytes"] == 902
        with pytest.raises(Refused, match="at most 1000 bytes") as refused:
            post_json(server, "/who", "x" * 1000)
        assert refused.value.status == 413
        with connection(server) as made:
            made.sendall(b"POST /who HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            made.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
            assert b" 413 " in everything(made).splitlines()[0]


def test_who_is_slow_is_dropped(tmp_path: Path) -> None:
    """Neither a handshake, nor a request's head, nor its body may take for ever."""
    with serving(tmp_path, Limits(handshake_s=0.3, head_s=0.3)) as server:
        with socket.create_connection((server.host, server.port), 10) as silent:
            assert everything(silent) == b""
        with connection(server) as made:
            made.sendall(b"GET /who HTTP/1.1\r\nHost: ")
            assert everything(made) == b""
        with connection(server) as made:
            made.sendall(b"POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx")
            assert everything(made) == b""
        assert get_json(server, "/who")["device"] == ""


def test_an_address_has_so_many_connections(tmp_path: Path) -> None:
    """One connection too many is closed before its handshake; when one ends, the next comes in."""
    with serving(tmp_path, Limits(connections_per_address=2)) as server:
        with connection(server), connection(server) as second:
            with pytest.raises((ssl.SSLError, ConnectionError)), connection(server):
                pass
            second.sendall(b"GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert b"200 OK" in everything(second)
        assert answered(server)


def test_an_address_has_a_rate(tmp_path: Path) -> None:
    """Who asks too often what is limited is told when to ask again."""
    with serving(tmp_path, Limits(requests_at_once=2, requests_per_minute=1)) as server:
        for _ in range(2):
            get_json(server, "/rare")
        with pytest.raises(Refused) as refused:
            get_json(server, "/rare")
        assert (refused.value.status, refused.value.passes) == (429, True)
        assert 0 < refused.value.after_s <= 60
        get_json(server, "/who")


def test_a_file_is_resumed_where_it_broke(tmp_path: Path) -> None:
    """What lacks of a file comes from its offset on, and is the rest of the same bytes."""
    data = bytes(range(256)) * 1000
    (tmp_path / "blob").write_bytes(data)
    with serving(tmp_path) as server:
        for offset in (0, 1, 255_999):
            file = io.BytesIO()
            assert get_range(server, "/blob", file, offset, len(data)) == len(data) - offset
            assert file.getvalue() == data[offset:]


def test_nothing_of_a_request_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither what was asked after the path nor a body reaches the log, at whatever level."""
    caplog.set_level(logging.DEBUG)
    with serving(tmp_path) as server:
        get_json(server, "/who?token=hidden")
        post_json(server, "/who", {"secret": "hidden"})
        with pytest.raises(Refused):
            post_json(server, "/none?token=hidden", {"secret": "hidden"})
    assert "hidden" not in caplog.text
