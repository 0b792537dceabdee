"""A hub with its web server and a clock that tests move; messages go nowhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hub import authority
from hub.config import FILE
from hub.identity import claims
from hub.serving.service import Service
from hub.store import registry
from hub.web.limits import Limits
from hub.web.server import WebServer
from hub.web.table import ROUTES
from tests.hub.web.places import HOSTS
from wire.https import Server, parse_address
from wire.identity import BrokerAt
from wire.keys import PrivateKey, new_key, write_key
from wire.memory import MemoryTransport, Network
from wire.token import Token

DAY_S = 86400.0


class Hub:
    """What tests ask and look at."""

    def __init__(self, folder: Path, days: float) -> None:
        self.folder = folder
        self.publisher: PrivateKey = new_key("publisher", "maker")
        _, public = write_key(self.publisher, folder / "maker")
        registry.create(folder, "farm", [public], "127.0.0.1:0")
        text = (folder / FILE).read_text().replace("certificate_days = 365", f"certificate_days = {days}")
        (folder / FILE).write_text(text)
        self._names = 0
        self.ahead_s = 0.0  # of the system's clock
        self.allowed: list[list[str]] = []
        self.at: list[str] = []
        self._one = threading.Lock()
        self.web: WebServer | None = None
        self.service = self._service()

    def _service(self) -> Service:
        made = Service(self.folder, MemoryTransport(Network(), "hub"), lambda: time.time() + self.ahead_s)
        made.broker_at = BrokerAt(True, "", 8883)
        made.allow = self.allowed.append
        made.web = "127.0.0.1:1"
        return made

    def begin_anew(self) -> None:
        """Serve, on the same port as before, with a certificate of the authority that signs now."""
        port = 0 if self.web is None else self.web.port
        if self.web is not None:
            self.web.close()
        authority.issue_server(authority.load(self.folder), list(HOSTS), self.folder, "web")
        files = (self.folder / "web.pem", self.folder / "web.key", self.folder / "ca.pem")
        self.web = WebServer("127.0.0.1", port, files, ROUTES, self.within, Limits(requests_at_once=10_000))
        self.at = [f"127.0.0.1:{self.web.port}"]
        self.service.web = self.at[0]

    def end(self) -> None:
        """No longer."""
        if self.web is not None:
            self.web.close()
        self.service.close()

    def within(self, function: Callable[[Service], Any]) -> Any:
        """The thread that owns the hub, near enough."""
        with self._one:
            return function(self.service)

    @property
    def server(self) -> Server:
        """Its web server, for clients."""
        host, port = parse_address(self.at[0])
        return Server(host, port, self.folder / "ca.pem")

    def name(self) -> str:
        """A name that no device has."""
        self._names += 1
        return f"barn-{self._names}"

    def token(self, name: str, expires_s: float = DAY_S, replace: bool = False) -> Token:
        """A claim token."""
        now_s = self.service.clock()
        return claims.make(self.service.home, [name], expires_s, replace, now_s, self.at)[0]

    def state(self, name: str) -> str:
        """What became of a token."""
        found = claims.outstanding(self.service.home, self.service.clock())
        return next(str(row["state"]) for row in found if row["name"] == name)

    def known(self) -> dict[str, str]:
        """The key of each device."""
        return {row["name"]: row["key"].split()[2] for row in self.service.home.ledger.devices()}


@contextmanager
def running(folder: Path, days: float = 365) -> Iterator[Hub]:
    """A hub whose boards can claim and renew."""
    hub = Hub(folder, days)
    hub.begin_anew()
    try:
        yield hub
    finally:
        hub.end()
