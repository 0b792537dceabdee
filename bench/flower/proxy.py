"""Counts what passes between clients and a server, as bytes of TCP: TLS and all, headers of IP left out."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator

PIECE = 1 << 16


class Proxy:
    """Takes connections on a port of its own and passes them on."""

    def __init__(self, target: int) -> None:
        self.target, self.up, self.down = target, 0, 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    @property
    def counted(self) -> tuple[int, int]:
        """Bytes from clients, bytes to them."""
        return self.up, self.down

    def close(self) -> None:
        """Take no more."""
        self._ended.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self.target)) as server:
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with selectors.DefaultSelector() as selector:
                selector.register(client, selectors.EVENT_READ, server)
                selector.register(server, selectors.EVENT_READ, client)
                while not self._ended.is_set():
                    for key, _ in selector.select(0.5):
                        data = key.fileobj.recv(PIECE)  # type: ignore[union-attr]  # a socket
                        if not data:
                            return
                        key.data.sendall(data)
                        if key.data is server:
                            self.up += len(data)
                        else:
                            self.down += len(data)


@contextlib.contextmanager
def counting(target: int) -> Iterator[Proxy]:
    """A proxy in front of a port of this machine."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
