"""The direct way between a board and its tail: a TLS connection that the board makes, where the job has an address.

Both sides are known twice. The tail asks for a certificate of the fleet and looks whose name is on it; the board does
not believe the tail's certificate, which is good for clients alone, but what the tail says first: its own certificate's
SHA-256, signed by the key that the hub named in the job. Nobody else can say that on this connection, for nobody else
has that certificate's key. What follows are the messages that the broker would carry, signed as there: so one look at
them serves both ways, and a way may change in the middle of a job.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from console.errors import TransportError
from edge.split.line import Limits, Line
from edge.split.table import SEATS, Door
from wire.files import digest
from wire.messages import Crossing, Peer
from wire.tls import connecting_context, listening_context

if TYPE_CHECKING:
    from edge.split.half import Half

log = logging.getLogger("edgequilt.agent")
MORE = 4  # connections beside those of the boards that are served: theirs may be on its way out
BACKLOG = 8
AHEAD = 16  # messages that a connection has read and the core has not
CORE_S = 30.0  # for the core to take one of them
CERTIFICATE = "certificate"  # in the fields of a proof

Take = Callable[["Link", type[Crossing | Peer], bytes], None]


@dataclass(eq=False)
class Link:
    """A connection whose handshake is done.

    Attributes:
        line: the connection.
        name: on the other side's certificate, where we asked for one; empty: we connected, and a proof must come first.
        shown: SHA-256 of the certificate that the connected side showed.
    """

    line: Line
    name: str
    shown: str
    half: Half | None = None  # whose it is, once both sides are known
    _room: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AHEAD))

    def run(self, call: Callable[[Callable[[], None]], None], take: Take) -> None:
        """Hand over what comes, on the core's thread, and no more than that takes."""

        def hand_over(kind: type[Crossing | Peer], message: bytes) -> None:
            if not self._room.acquire(timeout=CORE_S):
                raise TimeoutError("the agent is busy")
            call(lambda: self._take(take, kind, message))

        self.line.run(hand_over)

    def _take(self, take: Take, kind: type[Crossing | Peer], message: bytes) -> None:
        self._room.release()
        take(self, kind, message)


class Listener:
    """Where boards connect, in a thread of its own; every connection is another one, and there are few.

    Args:
        door: where, and by which files.
        met: told of a connection that stands, on a thread of its own, which it may keep.
        limits: the bounds.
        seats: boards that are served at a time, all of which may have one address.

    Raises:
        TransportError: it cannot listen there, or its files cannot be used.
    """

    def __init__(
        self, door: Door, met: Callable[[Link], None], limits: Limits | None = None, seats: int = SEATS
    ) -> None:
        self._door, self._met, self._limits = door, met, limits or Limits()
        self.per_address, self.connections = seats + MORE, 2 * (seats + MORE)
        self.refused = 0  # connections that were too many, or whose handshake failed
        self._inside: dict[Line, str] = {}
        self._lock = threading.Lock()
        try:
            listening_context(door.ca, door.certificate, door.key)
            family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
            self._socket = socket.create_server((door.host, door.port), family=family, backlog=BACKLOG)
        except (OSError, ssl.SSLError) as error:
            raise TransportError(
                f"expected to listen for boards on {door.host}:{door.port} (split.listen), could not ({error}); they "
                f"speak through the broker"
            ) from error
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="split-door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more, and end those that are open."""
        self._closed = True
        self._socket.close()
        with self._lock:
            for line in self._inside:
                line.close()

    def _run(self) -> None:
        self._socket.settimeout(1.0)
        while not self._closed:
            try:
                connection, address = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._closed:
                    log.warning("no board can connect any more: %s", error)
                return
            self._let_in(connection, str(address[0]))

    def _let_in(self, connection: socket.socket, address: str) -> None:
        with self._lock:
            here = sum(one == address for one in self._inside.values())
            full = here >= self.per_address or len(self._inside) >= self.connections
        try:
            if full:
                raise ConnectionRefusedError("there are too many connections")
            line, shown = self._wrapped(connection)
            with self._lock:
                self._inside[line] = address
            threading.Thread(target=self._greet, args=(line, shown), name="split-board", daemon=True).start()
        except (OSError, ssl.SSLError, RuntimeError) as error:
            self.refused += 1
            log.debug("no connection with %s: %s", address, error)
            connection.close()

    def _wrapped(self, connection: socket.socket) -> tuple[Line, str]:
        """With the certificate as it is now: it may have been renewed."""
        door = self._door
        context = listening_context(door.ca, door.certificate, door.key)
        shown = digest(ssl.PEM_cert_to_DER_cert(_first_certificate(door.certificate)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return Line(wrapped, self._limits), shown

    def _greet(self, line: Line, shown: str) -> None:
        try:
            line.greet()
            self._met(Link(line, line.name, shown))
        except (OSError, ssl.SSLError) as error:
            self.refused += 1
            log.debug("no connection with a board: %s", error)
        finally:
            line.end()
            with self._lock:
                self._inside.pop(line, None)


def dial(host: str, port: int, certificate: Path, key: Path, limits: Limits | None = None) -> Link:
    """Connect to a tail, which has not proved yet who it is.

    Raises:
        TransportError: nobody is there, or it is no agent of ours.
    """
    limits = limits or Limits()
    try:
        context = connecting_context(certificate, key)
        plain = socket.create_connection((host, port), timeout=limits.handshake_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = Line(context.wrap_socket(plain, do_handshake_on_connect=False), limits)
    except (OSError, ssl.SSLError) as error:
        raise TransportError(f"expected the tail at {host}:{port}, could not connect ({error})") from error
    try:
        line.greet()
    except (OSError, ssl.SSLError) as error:
        line.end()
        raise TransportError(f"expected the tail at {host}:{port}, the handshake failed ({error})") from error
    return Link(line, "", line.shown)


def _first_certificate(path: Path) -> str:
    """Of a PEM file the first certificate, which is the one that is shown."""
    text, end = path.read_text(encoding="ascii", errors="replace"), "-----END CERTIFICATE-----"
    at = text.find("-----BEGIN CERTIFICATE-----")
    return text[at : text.find(end, at) + len(end)] if at >= 0 else ""
