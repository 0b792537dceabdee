"""Where a broker is, and how a client shows who it is there."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from console.errors import TransportError
from wire.tls import client_context

Protocol = Literal["auto", "5", "3.1.1"]


@dataclass(frozen=True)
class Broker:
    """Where a broker listens: `mqtt://host:port` or `mqtts://host:port` with the files of a mutual TLS."""

    host: str
    port: int
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def parse_broker(url: str) -> Broker:
    """Read a broker's address.

    >>> parse_broker("mqtt://127.0.0.1:1883")
    mqtt://127.0.0.1:1883

    Raises:
        TransportError: it is not one.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError(url)
        return Broker(
            parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883), parts.scheme == "mqtts"
        )
    except ValueError as error:
        raise TransportError(f"expected a broker like mqtt://host:1883 or mqtts://host:8883, found {url!r}") from error


def files_of(broker: Broker) -> tuple[Path | None, Path | None]:
    """Our own certificate and its key, where there are both."""
    return (broker.certificate, broker.key) if broker.certificate and broker.key else (None, None)


def tls_of(broker: Broker) -> ssl.SSLContext:
    """How a connection to it is made safe.

    Raises:
        TransportError: its files cannot be used.
    """
    try:
        return client_context(broker.ca, *files_of(broker))
    except (OSError, ssl.SSLError) as error:
        raise TransportError(
            f"expected certificate files for {broker!r}, found none that can be used ({error}); check "
            f"ca, certificate and key"
        ) from error
