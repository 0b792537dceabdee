"""The web server that hub.toml and the command line ask for."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from console.errors import UsageError
from hub import authority
from hub.brokers.start import OWN, reached_by
from hub.bundles.counter import Counter
from hub.config import Config, host_and_port
from hub.web.pace import Paces
from hub.web.routes import Within
from hub.web.table import ROUTES

if TYPE_CHECKING:
    from hub.web.server import WebServer

STEM = "web"  # of its certificate and key in the hub's folder


@dataclass(frozen=True)
class Served:
    """HOST:PORT of a web server, empty where there is none."""

    at: str = ""
    server: WebServer | None = None

    @property
    def is_well(self) -> bool:
        """Whether it serves, if it should."""
        return self.server is None or self.server.is_running


def serve(config: Config, folder: Path, port: int | None, within: Within, counter: Counter, stack: ExitStack) -> Served:
    """Start it, unless it is switched off.

    Args:
        config: hub.toml.
        folder: the hub's.
        port: another port; 0 takes a free one.
        within: calls a function with the service, on the thread that owns it.
        counter: for bundles; it is told where they are served, and what was fetched.
        stack: ends it.

    Raises:
        UsageError: a port is given for a server that is switched off.
        TransportError: it cannot listen there.
    """
    if not config.web.listen:
        if port:
            raise UsageError("expected web.listen in hub.toml with --web-port, found none; set it or leave that out")
        return Served()
    from hub.web.server import WebServer  # the one door to aiohttp; a hub that serves nothing does not load it

    host, usual = host_and_port(config.web.listen, "web.listen")
    bare = host.strip("[]")
    made = authority.create(config.fleet, folder)
    authority.issue_server(made, reached_by(config, host), folder, STEM)
    files = (folder / f"{STEM}.pem", folder / f"{STEM}.key", folder / authority.CERTIFICATE)
    paces = Paces(config.web.rate, config.web.rate_per_device)
    server = WebServer(host, usual if port is None else port, files, ROUTES, within, paces=paces, sent=counter.fetched)
    stack.callback(server.close)
    counter.port = server.port
    shown = OWN.get(bare, bare)
    return Served(f"[{shown}]:{server.port}" if ":" in shown else f"{shown}:{server.port}", server)
