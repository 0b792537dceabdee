"""Which broker a hub works with: one that it starts itself, or one that is there."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from console.errors import UsageError
from hub import authority
from hub.brokers.embedded import EmbeddedBroker
from hub.brokers.mosquitto import Mosquitto
from hub.brokers.rules import rules
from hub.config import Config, listen_address, outside_broker
from wire.broker import Broker

AMQTT, MOSQUITTO = "amqtt", "mosquitto"
AMQTT_LACKS = ("TLS", "an access list", "messages that outlive it")
OWN = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where to reach what listens everywhere
HUB_FILES = "hub-tls"


@dataclass(frozen=True)
class Started:
    """A broker in use: where the hub itself goes, where devices go, and the child if the hub has started one."""

    inner: Broker
    shown: Broker
    child: EmbeddedBroker | Mosquitto | None = None

    @property
    def lacks(self) -> tuple[str, ...]:
        """What people must know that it does not do."""
        return AMQTT_LACKS if isinstance(self.child, EmbeddedBroker) else ()

    @property
    def forgets(self) -> bool:
        """Whether it has just started without any client."""
        return self.child is not None

    def open(self) -> None:
        """Let devices in, now that the hub listens."""
        if isinstance(self.child, EmbeddedBroker):
            self.child.open()

    def allow(self, fleet: str, devices: list[str]) -> None:
        """Let in these devices and nobody else, where the broker can tell them apart."""
        if isinstance(self.child, Mosquitto):
            self.child.allow(rules(fleet, devices))


def start(
    config: Config, folder: Path, kind: str | None, port: int | None, devices: list[str], stack: ExitStack
) -> Started:
    """The broker that the command line names, or else hub.toml, or else the embedded one.

    Args:
        config: hub.toml.
        folder: the hub's.
        kind: amqtt, mosquitto, a URL, or None for what hub.toml says.
        port: another port for a broker that the hub starts itself; 0 takes a free one.
        devices: who may come in.
        stack: ends what was started.

    Raises:
        UsageError: the choice is none, or a port is given for a broker that is elsewhere.
        MissingDependency, TransportError: it cannot be started.
    """
    chosen = kind or config.broker.url or config.broker.kind
    if chosen not in (AMQTT, MOSQUITTO):
        outside = outside_broker(config, folder, chosen)
        if port is not None:
            raise UsageError("expected --port with a broker that the hub starts itself; leave it out")
        return Started(outside, outside)
    host, usual = listen_address(config)
    at = usual if port is None else port
    bare = host.strip("[]")
    if chosen == AMQTT:
        embedded = EmbeddedBroker(host, at)
        stack.callback(embedded.close)
        return Started(Broker("127.0.0.1", embedded.inner_port), Broker(OWN.get(bare, bare), embedded.port), embedded)
    return _mosquitto(config, folder, host, at, devices, stack)


def for_workers(config: Config, folder: Path, url: str) -> Broker:
    """The hub's broker as its workers reach it, with what the hub itself logs in with.

    Raises:
        TransportError: the address is not one.
    """
    found = outside_broker(config, folder, url)
    own = folder / f"{HUB_FILES}.pem"
    if not found.tls or found.certificate is not None or not own.exists():
        return found
    return replace(found, ca=folder / authority.CERTIFICATE, certificate=own, key=folder / f"{HUB_FILES}.key")


def _mosquitto(config: Config, folder: Path, host: str, port: int, devices: list[str], stack: ExitStack) -> Started:
    ca = authority.create(config.fleet, folder)
    authority.issue_server(ca, reached_by(config, host), folder, "broker")
    authority.issue_hub(ca, folder, HUB_FILES)
    child = Mosquitto(host, port, folder, rules(config.fleet, devices))
    stack.callback(child.close)
    bare = host.strip("[]")
    shown = Broker(OWN.get(bare, bare), child.port, True, folder / authority.CERTIFICATE)
    inner = replace(shown, certificate=folder / f"{HUB_FILES}.pem", key=folder / f"{HUB_FILES}.key")
    return Started(inner, shown, child)


def reached_by(config: Config, host: str) -> list[str]:
    """Under which names and addresses devices may find the hub: hub.toml's, this machine's name, this machine."""
    name = socket.gethostname()
    found = [
        *config.broker.hosts,
        *config.web.hosts,
        name,
        f"{name.partition('.')[0]}.local",
        "localhost",
        "127.0.0.1",
        "::1",
    ]
    bare = host.strip("[]")
    return list(dict.fromkeys([*found, *([] if bare in OWN else [bare])]))
