"""The transports that the contract is held to, each with what it can do and how to break it."""

from __future__ import annotations

import queue
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from hub import authority
from hub.brokers.embedded import EmbeddedBroker
from hub.brokers.mosquitto import Mosquitto
from hub.brokers.rules import rules
from tests.programs import mosquitto
from wire.broker import Broker
from wire.memory import MemoryTransport, Network
from wire.mqtt import SESSION_S, MqttTransport
from wire.tls import new_request
from wire.transport import Fate, Transport, Will

PATIENCE_S = 15.0
FLEET = "farm"
DEVICES = ["barn", "coop"]


class Place(Protocol):
    """Where clients meet."""

    # broker: may be restarted; absent: keeps for who is away; lasts: over a restart; list: of rights; five: what MQTT 5
    # has and 3.1.1 has not; delays: a last will waits
    can: frozenset[str]

    def transport(self, name: str, will: Will | None = None, lasting: bool = True) -> Transport:
        """A client with a name: `hub`, or one of DEVICES; what waits for it is kept, or not."""

    def settle(self) -> None:
        """Let what is on its way arrive, where that is not the network's business."""

    def pass_time(self, seconds: float) -> None:
        """The same seconds later."""

    def cut(self, transport: Transport) -> None:
        """A client vanishes without a word."""

    def restart(self) -> None:
        """The broker is killed and started again."""

    def close(self) -> None:
        """Nothing stays behind."""


@dataclass
class Client:
    """A client and what it was told."""

    place: Place
    transport: Transport
    told: queue.Queue[tuple[str, bytes]] = field(default_factory=queue.Queue)
    ups: list[bool] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)

    def start(self, *patterns: str) -> Client:
        """Connect; returns when the subscriptions stand."""
        for pattern in patterns:
            self.transport.subscribe(pattern)
        self.transport.start(lambda topic, payload: self.told.put((topic, payload)), self.ups.append, self.fates.append)
        self.wait(lambda: True in self.ups, "a connection")
        if isinstance(self.transport, MqttTransport):
            time.sleep(0.2)  # the answer to a subscription is not part of the contract
        return self

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish, as soon as that is possible."""
        self.wait(lambda: self.transport.publish(topic, payload, retain=retain), f"to publish on {topic}")

    def learns(self, topic: str, outcome: str) -> Fate:
        """Wait until the broker has said this of a message."""
        self.wait(lambda: any((f.topic, f.outcome) == (topic, outcome) for f in self.fates), f"{topic}: {outcome}")
        return next(f for f in self.fates if (f.topic, f.outcome) == (topic, outcome))

    def hears(self, payload: bytes) -> str:
        """Wait for a payload and forget what came before it; returns its topic."""
        return self.hears_all(payload)[-1][0]

    def hears_all(self, last: bytes) -> list[tuple[str, bytes]]:
        """Wait for a payload; returns all that came up to it."""
        found: list[tuple[str, bytes]] = []

        def came() -> bool:
            while not self.told.empty() and (not found or found[-1][1] != last):
                found.append(self.told.get())
            return bool(found) and found[-1][1] == last

        self.wait(came, f"{last[:20]!r}")
        return found

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"expected {what} within {PATIENCE_S:.0f} s"
            self.place.settle()
            time.sleep(0.01)


class Memory:
    """The in-memory transport."""

    can = frozenset({"absent", "five"})

    def __init__(self, folder: Path) -> None:
        self.network = Network()

    def pass_time(self, seconds: float) -> None:
        self.network.now_s += seconds

    def transport(self, name: str, will: Will | None = None, lasting: bool = True) -> Transport:
        return MemoryTransport(self.network, name, will)

    def settle(self) -> None:
        self.network.pump()

    def cut(self, transport: Transport) -> None:
        assert isinstance(transport, MemoryTransport)
        transport.drop()

    def close(self) -> None:
        """Nothing runs."""


class Mqtt(ABC):
    """What all real brokers have in common."""

    can = frozenset({"broker"})

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def broker(self, name: str) -> Broker:
        """How a client of this name comes in."""

    def transport(self, name: str, will: Will | None = None, lasting: bool = True) -> Transport:
        return MqttTransport(self.broker(name), name, will, session_s=SESSION_S if lasting else 0)

    def pass_time(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:  # a broker has a clock of its own
            time.sleep(0.05)

    def settle(self) -> None:  # noqa: B027  # nothing is to be done: the network does it
        """The network does it."""

    def cut(self, transport: Transport) -> None:
        assert isinstance(transport, MqttTransport)
        transport._stop.set()
        sock = transport._client.socket()
        assert sock is not None
        sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]  # a socket, whatever paho calls it: as when the plug is pulled: no goodbye


class Amqtt(Mqtt):
    """The embedded broker."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.child = EmbeddedBroker("127.0.0.1", 0)
        self.child.open(subscriptions=0)

    def broker(self, name: str) -> Broker:
        return Broker("127.0.0.1", self.child.port)

    def restart(self) -> None:
        self.child.close()
        self.child = EmbeddedBroker("127.0.0.1", self.child.port)
        self.child.open(subscriptions=0)

    def close(self) -> None:
        self.child.close()


class PlainMosquitto(Mqtt):
    """mosquitto as Debian has it, told to let anybody in."""

    can = frozenset({"broker", "absent", "lasts", "five", "delays"})

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with closing(socket.socket()) as found:
            found.bind(("127.0.0.1", 0))
            self.port = int(found.getsockname()[1])
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "persistence true", "autosave_interval 1"]
        (folder / "plain.conf").write_text("\n".join([*lines, f"persistence_location {folder}/", "user root", ""]))
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [mosquitto(), "-c", str(self.folder / "plain.conf")], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with closing(socket.socket()) as found:
                if found.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("expected mosquitto to listen")

    def broker(self, name: str) -> Broker:
        return Broker("127.0.0.1", self.port)

    def restart(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._start()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)


class TlsMosquitto(Mqtt):
    """mosquitto as the hub starts it: TLS, client certificates, an access list."""

    can = frozenset({"broker", "absent", "lasts", "list", "five", "delays"})

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        mosquitto()
        found = authority.create(FLEET, folder)
        authority.issue_server(found, ["127.0.0.1"], folder, "broker")
        authority.issue_hub(found, folder, "hub")
        for name in [*DEVICES, "stranger"]:
            _, request = new_request(name, folder)
            (folder / f"{name}.pem").write_bytes(authority.issue_device(found, name, request.read_bytes()))
        self.child = Mosquitto("127.0.0.1", 0, folder, rules(FLEET, DEVICES))

    def broker(self, name: str) -> Broker:
        name = name.partition("-")[0]  # who is several shares a certificate
        key = self.folder / ("hub.key" if name == "hub" else f"{name}.tls.key")
        made = Broker("127.0.0.1", self.child.port, True, self.folder / "ca.pem")
        return replace(made, certificate=self.folder / f"{name}.pem", key=key)

    def restart(self) -> None:
        self.child.close()
        self.child = Mosquitto("127.0.0.1", self.child.port, self.folder, rules(FLEET, DEVICES))

    def close(self) -> None:
        self.child.close()


PLACES: dict[str, Any] = {
    "memory": Memory,
    "amqtt": Amqtt,
    "mosquitto": PlainMosquitto,
    "mosquitto with TLS": TlsMosquitto,
}
