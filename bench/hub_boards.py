"""Many boards of a hub in one process: each with a key of its own, none with more memory than its update."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from hub.requests.answer import answer
from hub.rounds.names import job_id
from hub.serving.service import Service
from hub.store import registry
from hub.store import schema as t
from hub.store.writes import put_row
from tests.hub.bundles import manifest, write_bundle
from wire import messages as m
from wire.adapter import Adapter, to_bytes
from wire.chunks import cut
from wire.envelope import Trust, seal, unseal
from wire.files import digest
from wire.keys import new_key, read_public_key, write_key
from wire.kinds.lora import Lora
from wire.memory import MemoryTransport, Network
from wire.topics import device_subscriptions, topic_of

FLEET, MODEL, SCALE = "farm", "tiny", 2.0


def made_hub(
    folder: Path, slots: dict[str, tuple[int, int]], labels: tuple[str, ...], features: int, database: str = ""
) -> None:
    """A hub's folder below a folder, with a bundle that has slots but no graph: a hub runs none."""
    publisher = new_key("publisher", "acme")
    _, public = write_key(publisher, folder)
    registry.create(folder / "hub", FLEET, [public], "127.0.0.1:0")
    if database:
        told = folder / "hub" / "hub.toml"
        told.write_text(told.read_text().replace("[database]\n", f'[database]\nurl = "{database}"\n'))
    bundle = write_bundle(folder / "bundle", publisher, *manifest(slots, labels, features))
    home = registry.open_home(folder / "hub")
    registry.add_bundle(home, bundle)
    home.ledger.close()


class Boards:
    """The boards of a hub, and the hub.

    Args:
        folder: of `made_hub`.
        slots: of the model.
        ranks: of each board.
    """

    def __init__(self, folder: Path, slots: dict[str, tuple[int, int]], ranks: list[int]) -> None:
        self.slots, self.ranks, self.generating_cpu_s = slots, ranks, 0.0
        self.round, self.base = 0, ""
        self.network = Network()
        self.trust = Trust([read_public_key(folder / "hub" / "hub.pub", "hub")])
        self.keys = [new_key("device", name) for name in map(self.name, range(len(ranks)))]
        home = registry.open_home(folder / "hub")
        with home.ledger.transaction() as tx:
            for index, key in enumerate(self.keys):
                put_row(tx, t.devices, {"name": self.name(index), "key": key.public.line, "online": False})
        home.ledger.close()
        self.hub = Service(folder / "hub", MemoryTransport(self.network, "hub"))
        self.hub.start()
        self.transport = MemoryTransport(self.network, "boards")
        for pattern in device_subscriptions(FLEET, MODEL, "+"):
            self.transport.subscribe(pattern)
        self.receipts: dict[str, int] = {}
        self.transport.start(self._hear, lambda up: None)

    @staticmethod
    def name(index: int) -> str:
        """Of a board."""
        return f"board-{index}"

    def greet(self) -> None:
        """Everybody says hello."""
        for index, rank in enumerate(self.ranks):
            self._say(index, m.Hello(self._sender(index), "numpy", "server", "0" * 64, rank, ("train",), 100))

    def open(self) -> None:
        """Open a round of training for everybody; it closes with the last update."""
        self.round = answer(self.hub, {"request": "open", "kind": "train"})["round"]
        opened = self.hub.home.ledger.round(self.round)
        self.base = "" if opened is None else opened.versions[0]
        self._pump()

    def send(self, index: int) -> int:
        """A board's update, begin to commit; its size in bytes."""
        started = time.process_time()
        draw = np.random.default_rng(index)
        rank = self.ranks[index]
        lora = {
            name: Lora(
                draw.standard_normal((rows, rank), np.float32) / np.float32(rows**0.5),
                draw.standard_normal((rank, columns), np.float32) * np.float32(0.01),
                SCALE,
            )
            for name, (rows, columns) in self.slots.items()
        }
        data = to_bytes(Adapter(MODEL, self.base, lora))
        del lora
        self.generating_cpu_s += time.process_time() - started
        job = job_id(self.round, "train", self.name(index))
        name = digest(data)
        self._say(index, m.Begin(self._sender(index), name, "adapter", job, self.round, self.base, len(data), 100))
        pieces, size = cut(data), len(data)
        del data
        while pieces:
            self._say(index, pieces.pop(0))
        self._say(index, m.Commit(self._sender(index), name))
        return size

    def settled(self) -> None:
        """Let the round come to its end.

        Raises:
            RuntimeError: it did not, or an update was not receipted.
        """
        for _ in range(10):
            self._pump()
            self.hub.tick()
        shown = answer(self.hub, {"request": "show", "round": self.round})
        if shown["open"] or shown["version"] is None or self.receipts != {"accepted": len(self.ranks)}:
            raise RuntimeError(f"expected a version of the round, found {shown['state']}, receipts {self.receipts}")

    def _sender(self, index: int) -> m.Sender:
        return m.Sender(self.name(index), "boot", 1)

    def _say(self, index: int, message: m.Hello | m.Begin | m.Chunk | m.Commit) -> None:
        body = m.encode(message)
        payload = body if isinstance(message, m.Chunk) else seal(self.keys[index], body)
        self.transport.publish(topic_of(FLEET, MODEL, "up", type(message).TYPE, self.name(index)), payload)
        self._pump()

    def _pump(self) -> None:
        """Deliver, and forget what was said: a history of all updates would be memory that no hub has."""
        self.network.pump()
        self.network.history.clear()

    def _hear(self, topic: str, payload: bytes) -> None:
        if topic.rsplit("/", 1)[1] == m.Receipt.TYPE:
            body, _ = unseal(payload, "hub", self.trust, "a receipt")
            status = m.decode(body, m.Receipt).status
            self.receipts[status] = self.receipts.get(status, 0) + 1
