"""One TLS connection between two agents, as frames: 4 bytes of length, big-endian, one letter, a signed message.

One thread reads and writes, for OpenSSL lets no two threads use one connection. Whoever is slow, silent or says too
much is dropped: a frame has a deadline by its size, a handshake one of its own, and a length is looked at before its
bytes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from console.errors import BadData
from wire.files import digest
from wire.messages import PART_LIMIT_BYTES, Crossing, Peer

LETTERS: dict[bytes, type[Crossing | Peer]] = {b"c": Crossing, b"p": Peer}
LETTER_OF = {kind: letter for letter, kind in LETTERS.items()}
FRAME_LIMIT_BYTES = PART_LIMIT_BYTES + (64 << 10)
BLOCK_BYTES = 64 << 10
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class Limits:
    """Bounds of a connection; times in seconds."""

    handshake_s: float = 10.0  # from the connection to the end of the TLS handshake, and from there to the first frame
    frame_s: float = 10.0  # for a frame, and as much longer as it takes at
    slowest_bytes_s: float = 8192.0  # bytes per second
    silence_s: float = 180.0  # the streams ask each other after 30 s
    waiting_bytes: int = 32 << 20  # that we want to say


class Frames:
    """Bytes as they come, cut into frames. No I/O."""

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def begun(self) -> int:
        """Bytes of a frame that is not whole."""
        return len(self._held)

    @property
    def wanted(self) -> int:
        """How many it will have, head included; 0: not known yet."""
        return _LENGTH.size + _LENGTH.unpack_from(self._held)[0] if len(self._held) >= _LENGTH.size else 0

    def add(self, data: bytes) -> Iterator[tuple[type[Crossing | Peer], bytes]]:
        """The frames that are whole now.

        Raises:
            BadData: one is too long, too short, or of no kind; those before it have come.
        """
        self._held += data
        while self.wanted:
            length = self.wanted - _LENGTH.size
            if not 1 < length <= FRAME_LIMIT_BYTES:
                raise BadData(f"expected a frame of 2 to {FRAME_LIMIT_BYTES} bytes, found {length}; it was ignored")
            if len(self._held) < self.wanted:
                return
            letter, body = bytes(self._held[4:5]), bytes(self._held[5 : self.wanted])
            if letter not in LETTERS:
                raise BadData(f"expected a frame of a crossing or a peer, found {letter!r}; it was ignored")
            del self._held[: self.wanted]
            yield LETTERS[letter], body


def frame(kind: type[Crossing | Peer], message: bytes) -> bytes:
    r"""A signed message as a frame.

    >>> frame(Peer, b"signed")
    b'\x00\x00\x00\x07psigned'
    """
    return _LENGTH.pack(len(message) + 1) + LETTER_OF[kind] + message


class Line:
    """A connection that stands, once `run` was called in a thread of its own.

    Args:
        sock: connected, the handshake not begun.
        limits: the bounds.
    """

    def __init__(self, sock: ssl.SSLSocket, limits: Limits) -> None:
        self._sock, self._limits = sock, limits
        self._out, self._lock = bytearray(), threading.Lock()
        self._wake, self._woken = socket.socketpair()
        self._closing = False
        self.why = ""  # it ended, as a few words
        self.came_bytes = self.sent_bytes = 0

    @property
    def name(self) -> str:
        """The common name on the certificate of the other side, which TLS has checked; empty: none was asked for."""
        return name_on(self._sock.getpeercert())

    @property
    def shown(self) -> str:
        """SHA-256 of the certificate of the other side."""
        return digest(self._sock.getpeercert(binary_form=True) or b"")

    def send(self, kind: type[Crossing | Peer], message: bytes) -> bool:
        """Have a message go out; False: the connection takes no more. From any thread."""
        with self._lock:
            if self._closing or len(self._out) > self._limits.waiting_bytes:
                return False
            self._out += frame(kind, message)
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        return True

    def close(self) -> None:
        """End it. From any thread."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def end(self) -> None:
        """Close the socket. From the thread that runs it."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._sock.close()
        with self._lock:
            self._out.clear()
        self._wake.close()
        self._woken.close()

    def greet(self) -> None:
        """The handshake, within its time.

        Raises:
            OSError: it failed, or took too long.
        """
        self._sock.setblocking(False)
        ends_at = time.monotonic() + self._limits.handshake_s
        while not self._closing:
            wants = self._handshake()
            if wants is None:
                return
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("no handshake")
            self._select(min(left_s, 0.5), wants == "write")
        raise ConnectionAbortedError("closed")

    def run(self, take: Callable[[type[Crossing | Peer], bytes], None]) -> None:
        """Read and write until the end, of which `why` tells; `take` gets what comes, on this thread."""
        frames, now = Frames(), time.monotonic()
        heard_at = begun_at = now
        quiet_s = self._limits.handshake_s  # until the first frame
        try:
            while not self._closing:
                data = self._read()
                now = time.monotonic()
                if data:
                    begun_at = begun_at if frames.begun else now
                    for kind, message in frames.add(data):
                        heard_at, begun_at, quiet_s = now, now, self._limits.silence_s
                        take(kind, message)
                    continue
                patience_s = self._limits.frame_s + frames.wanted / self._limits.slowest_bytes_s
                slow = frames.begun > 0 and now - begun_at > patience_s
                if slow or now - heard_at > quiet_s:
                    raise TimeoutError("too slow" if slow else "silent")
                wants_write = self._write()
                self._select(0.5, wants_write)
        except (OSError, BadData) as error:
            self.why = str(error) or type(error).__name__
        finally:
            self.end()

    def _handshake(self) -> str | None:
        """One step of it; what it waits for."""
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            return "read"
        except ssl.SSLWantWriteError:
            return "write"
        return None

    def _read(self) -> bytes:
        """Some bytes; none: there are none now."""
        try:
            data = self._sock.recv(BLOCK_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""
        if not data:
            raise ConnectionResetError("the other side has ended it")
        self.came_bytes += len(data)
        return data

    def _write(self) -> bool:
        """Write what can be written; whether there is more."""
        while True:
            with self._lock:
                block = bytes(self._out[:BLOCK_BYTES])
            if not block:
                return False
            try:
                count = self._sock.send(block)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return True
            self.sent_bytes += count
            with self._lock:
                del self._out[:count]

    def _select(self, seconds: float, writes: bool) -> None:
        poll, woken = select.poll(), self._woken.fileno()  # select takes no descriptor above 1023
        poll.register(woken, select.POLLIN)
        poll.register(self._sock.fileno(), select.POLLIN | (select.POLLOUT if writes else 0))
        if any(one == woken for one, _ in poll.poll(seconds * 1000)):
            self._woken.recv(4096)


def name_on(certificate: Any) -> str:
    """The common name on a certificate that TLS has checked; empty: there is none.

    >>> name_on({"subject": ((("commonName", "barn"),),)})
    'barn'
    """
    names = [value for part in (certificate or {}).get("subject", ()) for key, value in part if key == "commonName"]
    return str(names[0]) if len(names) == 1 else ""
