"""What a board is told when its identity is granted or renewed: all whom it should believe, and where they are."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from cryptography import x509

from console.errors import UsageError
from hub import authority
from hub.brokers.start import OWN
from hub.config import Config, host_and_port, publisher_keys
from hub.store.registry import Home
from wire.identity import BrokerAt, Granted


@dataclass(frozen=True)
class Where:
    """Where boards find the hub."""

    broker: BrokerAt
    web: tuple[str, ...]


def granted(home: Home, name: str, certificate: bytes, where: Where, now_s: float) -> Granted:
    """The answer for a device with this certificate (PEM)."""
    ends = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    return Granted(
        fleet=home.config.fleet,
        name=name,
        certificate=certificate.decode(),
        ca=authority.trusted(home.folder).decode(),
        hub=home.key.public.line,
        publishers=tuple(key.line for key in publisher_keys(home.config, home.folder)),
        broker=where.broker,
        web=where.web,
        at_s=now_s,
        expires_at_s=ends.timestamp(),
    )


def addresses(config: Config, serving: str = "") -> list[str]:
    """HOST:PORT under which boards reach the hub's HTTPS: the names of hub.toml, or else where it listens.

    Args:
        config: hub.toml.
        serving: HOST:PORT where a running hub serves, since its port may be another one.

    Raises:
        UsageError: it is switched off, or its port is not known before it runs.
    """
    if not config.web.listen:
        raise UsageError("expected web.listen in hub.toml, found none: boards claim over HTTPS; set it")
    host, port = host_and_port(config.web.listen, "web.listen")
    port = host_and_port(serving, "the address of the hub")[1] if serving else port
    if not port:
        raise UsageError("expected the port of the hub's HTTPS, which only a running hub knows; start it first")
    bare = host.strip("[]")
    own = [socket.gethostname()] if bare in OWN else [bare]
    hosts = [*config.web.hosts, *config.broker.hosts] or own
    return [f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in dict.fromkeys(hosts)]
