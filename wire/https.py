"""What agents ask of a hub over HTTPS, with the standard library alone; `http.client` is loaded when it is first used.

A server is believed because its certificate is of an authority that was given, or one whose SHA-256 was given: that
one is asked for over a connection that believes anybody and carries nothing secret.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from console.errors import HubError, IntegrityError, SignatureError, StorageError, TransportError, UsageError
from wire.json_text import parse_json
from wire.tls import client_context

if TYPE_CHECKING:
    from http.client import HTTPResponse, HTTPSConnection

TIMEOUT_S = 20.0
ANSWER_LIMIT_BYTES, ANSWER_S = 256 << 10, 60.0  # of what is read into memory
BLOCK_BYTES = 64 << 10
CA_PATH = "/ca.pem"


@dataclass(frozen=True)
class Server:
    """Where a hub serves HTTPS, whom to believe there, and what to show it.

    Attributes:
        host, port: where.
        ca: the authorities to believe: a file, or PEM text.
        certificate, key: of the client, PEM files; both may be one file.
    """

    host: str
    port: int
    ca: Path | str = field(repr=False)
    certificate: Path | None = None
    key: Path | None = None

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Refused(HubError):
    """The hub answered, and said no."""

    def __init__(self, status: int, sentence: str, after_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.status, self.after_s = status, after_s

    @property
    def passes(self) -> bool:
        """Whether the same request may be answered later."""
        return self.status == 429 or self.status >= 500


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPv6]:PORT`.

    >>> parse_address("[::1]:8884")
    ('::1', 8884)

    Raises:
        UsageError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host.strip("[]") or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"expected HOST:PORT, found {text!r}")
    return host.strip("[]"), int(port)


def get_json(server: Server, path: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """What a hub answers.

    Raises:
        TransportError: it cannot be reached, or is not of this fleet.
        Refused: it says no.
    """
    with _asked(server, "GET", path, None, {}, timeout_s) as answer:
        return _table(server, answer)


def get_bytes(server: Server, path: str, limit_bytes: int, timeout_s: float = TIMEOUT_S) -> bytes:
    """A small file as it is.

    Raises:
        TransportError: the hub cannot be reached, or what it sends is longer than the limit.
        Refused: it says no.
    """
    with _asked(server, "GET", path, None, {}, timeout_s) as answer:
        return _whole(server, answer, limit_bytes)


def post_json(server: Server, path: str, value: Any, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Send a table, get one.

    Raises:
        TransportError: the hub cannot be reached, or is not of this fleet.
        Refused: it says no.
    """
    body = json.dumps(value).encode()
    with _asked(server, "POST", path, body, {"Content-Type": "application/json"}, timeout_s) as answer:
        return _table(server, answer)


def get_range(server: Server, path: str, file: BinaryIO, offset: int, size: int, timeout_s: float = TIMEOUT_S) -> int:
    """Append what lacks of a file of known size, from an offset on; returns the bytes written.

    What came before a connection broke is in the file: ask again from there.

    Args:
        server: the hub.
        path: of what it serves.
        file: written to, wherever it stands.
        offset: of the first byte that lacks.
        size: of the whole.
        timeout_s: the longest silence.

    Raises:
        TransportError: the hub cannot be reached, or the connection broke.
        Refused: it says no.
        IntegrityError: it has a file of another size.
        StorageError: the disk does not take it.
    """
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with _asked(server, "GET", path, None, headers, timeout_s) as answer:
        return _rest(answer, path, file, offset, size)


def _rest(answer: HTTPResponse, path: str, file: BinaryIO, offset: int, size: int) -> int:
    written, found = 0, answer.getheader("Content-Range") or ""
    begins, whole = (0, answer.getheader("Content-Length") or "")
    if answer.status == 206:
        span, _, whole = found.removeprefix("bytes ").partition("/")
        first = span.partition("-")[0]
        begins = int(first) if first.isascii() and first.isdigit() and len(first) < 20 else -1
    if whole != str(size) or begins not in (0, offset):
        raise IntegrityError(f"expected {size} bytes from {offset} on of {path}, found {(found or whole)[:80]}")
    skip = offset - begins  # a server that knows no ranges sends all of it
    for block in _blocks(answer):
        fresh = block[skip:]
        skip = max(0, skip - len(block))
        if offset + written + len(fresh) > size:
            raise IntegrityError(f"expected {size} bytes of {path}, found more")
        _write(file, fresh)
        written += len(fresh)
    if offset + written < size:
        raise TransportError(f"expected {size} bytes of {path}, the connection ended after {offset + written}")
    return written


def fetch_authority(host: str, port: int, fingerprint: str, timeout_s: float = TIMEOUT_S) -> str:
    """The authority (PEM) that a hub offers, if its certificate has this SHA-256; nothing is told to the hub.

    Raises:
        TransportError: it cannot be reached.
        SignatureError: none that it offers has the fingerprint.
    """
    import hashlib

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # what comes is checked below
    server = Server(host, port, "")
    with _asked(server, "GET", CA_PATH, None, {}, timeout_s, context) as answer:
        text = _whole(server, answer).decode(errors="replace")
    for pem in split_pem(text):
        try:
            der = ssl.PEM_cert_to_DER_cert(pem)
        except ValueError:
            continue
        if hashlib.sha256(der).hexdigest() == fingerprint:
            return pem
    raise SignatureError(
        f"expected the authority {fingerprint[:16]} of the fleet at {server.address}, found another hub or somebody in "
        f"between; check the address, and make a new token if the fleet's authority is a new one"
    )


def split_pem(text: str) -> list[str]:
    """The certificates of a PEM file, one by one."""
    end = "-----END CERTIFICATE-----"
    begin = "-----BEGIN CERTIFICATE-----"
    return [begin + part.partition(end)[0] + end + "\n" for part in text.split(begin)[1:] if end in part]


@contextmanager
def _asked(
    server: Server,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
    timeout_s: float,
    context: ssl.SSLContext | None = None,
) -> Iterator[HTTPResponse]:
    from http.client import HTTPException, HTTPSConnection

    try:
        made = context or client_context(server.ca, server.certificate, server.key)
        connection: HTTPSConnection = HTTPSConnection(server.host, server.port, timeout=timeout_s, context=made)
        with closing(connection):
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            if answer.status >= 300:
                raise _refused(server, answer)
            yield answer
    except ssl.SSLCertVerificationError as error:
        raise TransportError(
            f"expected the hub of this fleet at {server.address}, found a certificate that does not hold "
            f"({error.verify_message}); check the address, and that web.hosts of hub.toml names it"
        ) from error
    except (OSError, HTTPException) as error:
        raise TransportError(f"expected an answer of the hub at {server.address}, found none ({error})") from error


def _refused(server: Server, answer: HTTPResponse) -> Refused:
    data = _whole(server, answer)
    try:
        sentence = str(parse_json(data)["error"])
    except (ValueError, KeyError, TypeError):
        sentence = f"the hub at {server.address} answered with status {answer.status}"
    after = answer.getheader("Retry-After") or ""
    return Refused(answer.status, sentence[:500], float(after) if after.isascii() and after.isdigit() else 0.0)


def _write(file: BinaryIO, data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:  # else it would look like one of the connection
        raise StorageError(
            f"expected to write {len(data)} bytes, stopped ({error.strerror}); free some space"
        ) from error


def _blocks(answer: HTTPResponse) -> Iterator[bytes]:
    """The body as it comes; ConnectionError if it ends before its length, which http.client does not say."""
    while block := answer.read1(BLOCK_BYTES):
        yield block
    if answer.length:
        raise ConnectionError(f"{answer.length} bytes are absent")


def _whole(server: Server, answer: HTTPResponse, limit_bytes: int = ANSWER_LIMIT_BYTES) -> bytes:
    """All of a short answer, however slowly it drips."""
    ends, data = time.monotonic() + ANSWER_S, b""
    for block in _blocks(answer):
        data += block
        if len(data) > limit_bytes or time.monotonic() > ends:
            raise TransportError(
                f"expected at most {limit_bytes} bytes of {server.address} within {ANSWER_S:.0f} s, found more"
            )
    return data


def _table(server: Server, answer: HTTPResponse) -> dict[str, Any]:
    data = _whole(server, answer)
    try:
        found = parse_json(data)
    except ValueError as error:
        raise TransportError(f"expected JSON of the hub at {server.address}, found something else") from error
    if not isinstance(found, dict):
        raise TransportError(f"expected a table of the hub at {server.address}, found something else")
    return found
