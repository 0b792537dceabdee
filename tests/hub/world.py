"""The little world that tests of the hub share: a hub, three devices, a network, a clock."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hub.requests.answer import answer
from hub.serving.clock import steady_clock
from hub.serving.service import Service
from hub.store import registry
from tests.fleet import Device, nudge
from tests.hub.bundles import FEATURES, LABELS
from wire.keys import PrivateKey, new_key, read_public_key
from wire.memory import MemoryTransport, Network

RANKS = {"barn": 2, "coop": 4, "mill": 16}


class World:
    """A hub and its devices; `settle` lets messages and time flow until nothing changes."""

    def __init__(self, folder: Path, publisher: PrivateKey, **network: Any) -> None:
        self.folder, self.publisher = folder / "hub", publisher
        self.network = Network(**network)
        self.now_s = 1000.0
        self.set_s = 0.0  # by how much somebody set the system's clock
        self.devices: dict[str, Device] = {}
        home = registry.open_home(self.folder)
        keys = {name: new_key("device", name) for name in RANKS}
        for name, key in keys.items():
            registry.enroll(home, name, key.public.line)
        home.ledger.close()
        self.hub = self.start_hub()
        for index, (name, rank) in enumerate(RANKS.items()):
            self.devices[name] = self.make_device(name, keys[name], rank, index)
            self.devices[name].start()
        self.network.pump()

    def start_hub(self) -> Service:
        """A hub on the folder; the one before it, if any, is dropped as a kill would."""
        if hasattr(self, "hub"):
            self.hub.home.ledger.close()  # a kill closes connections, too
        clock = steady_clock(lambda: self.now_s + self.set_s, lambda: self.now_s)
        service = Service(self.folder, MemoryTransport(self.network, "hub"), clock)
        service.start()
        return service

    def make_device(self, name: str, key: PrivateKey, rank: int, index: int, model: str = "tiny") -> Device:
        """A device with rows of one class mostly, and a training of its own."""
        g = np.random.default_rng(index)
        classes = np.array([index] * (10 + 5 * index) + [(index + 1) % len(LABELS)])
        features = g.standard_normal((len(classes), FEATURES)).astype(np.float32)
        features[np.arange(len(classes)), classes] += 6
        return Device(
            name,
            key,
            read_public_key(self.folder / "hub.pub", "hub"),
            "farm",
            model,
            MemoryTransport(self.network, name),
            rank,
            features,
            classes,
            len(LABELS),
            nudge(index),
        )

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """A request of the local socket, without the socket."""
        return answer(self.hub, {"request": request, **arguments})

    def show(self, number: int) -> dict[str, Any]:
        return self.ask("show", round=number)

    def settle(self, rounds: int = 60, devices: Iterable[Device] | None = None) -> None:
        """Deliver everything; devices retry and time passes, as often as a lossy network needs."""
        for _ in range(rounds):
            self.network.pump()
            self.now_s += 5
            self.hub.tick()
            for device in list(self.devices.values()) if devices is None else devices:
                device.work()
                device.retry()
            if not self.hub.open_rounds:
                break
        self.network.pump()

    def run(self, kind: str, **arguments: Any) -> dict[str, Any]:
        """Open a round, let it run, and return everything about it."""
        number = self.ask("open", kind=kind, **arguments)["round"]
        self.settle()
        return self.show(number)
