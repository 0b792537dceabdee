"""The agents' HTTPS client against a server that says whatever a test wants."""

from __future__ import annotations

import errno
import io
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from console.errors import IntegrityError, StorageError, TransportError, UsageError
from hub import authority
from tests.hub.web.places import listening
from wire.https import ANSWER_LIMIT_BYTES, Refused, Server, get_bytes, get_json, get_range, parse_address, split_pem

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority and a server's certificate."""
    made = tmp_path_factory.mktemp("fleet")
    authority.issue_server(authority.create("farm", made), ["127.0.0.1"], made, "web")
    return made


@contextmanager
def saying(folder: Path, answer: bytes) -> Iterator[Server]:
    """A server that says this to everybody and hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "web.pem", folder / "web.key")
    listener = listening()

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with closing(context.wrap_socket(plain, server_side=True)) as made:
                made.recv(65536)
                try:
                    made.sendall(answer)
                    made.unwrap()
                except OSError:
                    continue  # the client has heard enough

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield Server("127.0.0.1", listener.getsockname()[1], folder / "ca.pem")
    finally:
        listener.close()


WRONG = {
    "no HTTP": (b"hello\r\n\r\n", TransportError, "found none"),
    "nothing": (b"", TransportError, "found none"),
    "no JSON": (OK + b"Content-Length: 3\r\n\r\n{a}", TransportError, "expected JSON of the hub"),
    "no table": (OK + b"Content-Length: 2\r\n\r\n[]", TransportError, "expected a table of the hub"),
    "half": (OK + b"Content-Length: 9\r\n\r\n{}", TransportError, "found none"),
    "too much": (OK + b"\r\n" + b" " * (ANSWER_LIMIT_BYTES + 1), TransportError, "bytes of 127.0.0.1:.* within 60 s"),
    "a redirection": (
        b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\n\r\n",
        Refused,
        "answered with status 302",
    ),
    "deep": (OK + b"\r\n" + b"[" * 100_000, TransportError, "expected JSON of the hub"),
    "a refusal without words": (b"HTTP/1.1 403 No\r\n\r\n<html>", Refused, "answered with status 403"),
}


@pytest.mark.parametrize("answer", WRONG)
def test_what_is_no_answer_is_said(folder: Path, answer: str) -> None:
    """Whatever a server says, the client has a sentence, and follows nobody elsewhere."""
    said, kind, words = WRONG[answer]
    with saying(folder, said) as server, pytest.raises(kind, match=words):
        get_json(server, "/x")


def test_a_refusal_is_repeated_with_its_pause(folder: Path) -> None:
    """The hub's sentence reaches the user, at most a few lines of it; what passes is told from what does not."""
    said = b'HTTP/1.1 429 No\r\nRetry-After: 7\r\n\r\n{"error": "' + b"later " * 200 + b'"}'
    with saying(folder, said) as server, pytest.raises(Refused) as refused:
        get_json(server, "/x")
    assert (refused.value.status, refused.value.passes, refused.value.after_s) == (429, True, 7.0)
    assert len(str(refused.value)) == 500


PARTIAL = b"HTTP/1.1 206 Partial\r\n"
RANGES = {
    "the range": (PARTIAL + b"Content-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n456789", None),
    "all, without ranges": (OK + b"Content-Length: 10\r\n\r\n0123456789", None),
    "another range": (
        PARTIAL + b"Content-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\n56789",
        "expected 10 bytes from 4",
    ),
    "another size": (
        PARTIAL + b"Content-Range: bytes 4-10/11\r\nContent-Length: 7\r\n\r\n456789a",
        "expected 10 bytes",
    ),
    "no range": (PARTIAL + b"Content-Length: 6\r\n\r\n456789", "expected 10 bytes from 4 on"),
    "more than it says": (PARTIAL + b"Content-Range: bytes 4-9/10\r\n\r\n456789abc", "found more"),
}


@pytest.mark.parametrize("answer", RANGES)
def test_only_the_rest_of_a_file_is_taken(folder: Path, answer: str) -> None:
    """From an offset on come the bytes that lack, or nothing is believed."""
    said, words = RANGES[answer]
    file = io.BytesIO()
    with saying(folder, said) as server:
        if words is None:
            assert get_range(server, "/x", file, 4, 10) == 6
            assert file.getvalue() == b"456789"
            return
        with pytest.raises(IntegrityError, match=words):
            get_range(server, "/x", file, 4, 10)
    assert len(file.getvalue()) <= 6


def test_a_broken_download_keeps_what_came(folder: Path) -> None:
    """When the connection ends in the middle, what came is in the file, to go on from."""
    said = PARTIAL + b"Content-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n456"
    file = io.BytesIO()
    with saying(folder, said) as server, pytest.raises(TransportError, match="found none"):
        get_range(server, "/x", file, 4, 10)
    assert file.getvalue() == b"456"


class FullDisk(io.BytesIO):
    """Takes nothing."""

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_not_the_hubs_fault(folder: Path) -> None:
    """What cannot be written is said as that, not as a broken connection."""
    with saying(folder, RANGES["the range"][0]) as server, pytest.raises(StorageError, match="No space left"):
        get_range(server, "/x", FullDisk(), 4, 10)


def test_a_small_file_is_taken_whole(folder: Path) -> None:
    """All of it, or a sentence where it is longer than it may be."""
    with saying(folder, OK + b"Content-Length: 4\r\n\r\n0123") as server:
        assert get_bytes(server, "/x", 4) == b"0123"
        with pytest.raises(TransportError, match="expected at most 3 bytes"):
            get_bytes(server, "/x", 3)


def test_an_address_is_a_host_and_a_port() -> None:
    """What is neither is refused."""
    assert parse_address("hub.example:8884") == ("hub.example", 8884)
    for wrong in ("hub", ":1", "hub:", "hub:0", "hub:65536", "hub:x", ""):
        with pytest.raises(UsageError, match="expected HOST:PORT"):
            parse_address(wrong)


def test_certificates_are_told_apart(folder: Path) -> None:
    """A file of several is read one by one, whatever lies between."""
    pem = (folder / "ca.pem").read_text()
    assert split_pem(f"# old\n{pem}\n# new\n{pem}-----BEGIN CERTIFICATE-----\nhalf") == [pem, pem]
