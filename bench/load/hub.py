"""A hub as users run it, with boards that speak the real protocol and learn nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.hub_boards import FLEET, MODEL, SCALE, made_hub
from bench.load.brokers import identities
from bench.load.crowd import Crowd
from bench.load.processes import SERVER_CORE, child, child_named, first_line
from hub.serving.control import ask
from hub.store import registry
from hub.store import schema as t
from hub.store.writes import put_row
from tests.fleet import Device
from wire import messages as m
from wire.adapter import Adapter, to_bytes
from wire.broker import Broker
from wire.chunks import cut
from wire.keys import PrivateKey, new_key, read_public_key
from wire.kinds.lora import Lora
from wire.transport import Transport

LABELS, FEATURES, SAMPLES = ("no", "yes"), 16, 100
START_S = 60.0


@dataclass(frozen=True)
class Shape:
    """An adapter: so many slots of so many inputs and outputs, and its rank."""

    name: str
    slots: int
    side: int
    rank: int

    @property
    def table(self) -> dict[str, tuple[int, int]]:
        """Slots by name: inputs and outputs."""
        return {f"layer.{index}.query": (self.side, self.side) for index in range(self.slots)}

    def update(self, version: str, seed: int) -> bytes:
        """An update that a hub takes, of numbers that nobody learned."""
        draw = np.random.default_rng(seed)
        lora = {
            name: Lora(
                draw.standard_normal((rows, self.rank), np.float32) / np.float32(rows**0.5),
                draw.standard_normal((self.rank, columns), np.float32) * np.float32(0.01),
                SCALE,
            )
            for name, (rows, columns) in self.table.items()
        }
        return to_bytes(Adapter(MODEL, version, lora))


SMALL = Shape("10 KB", 4, 64, 4)
MIDDLE = Shape("0.3 MB", 12, 384, 8)  # query and value of six blocks of a MiniLM
LARGE = Shape("2.4 MB", 48, 384, 16)
SHAPES = {shape.name: shape for shape in (SMALL, MIDDLE, LARGE)}


def make(folder: Path, shape: Shape, count: int, aggregation: str = "", database: str = "") -> dict[str, PrivateKey]:
    """A hub's folder `folder/hub` with `count` enrolled boards, and their keys and certificates in `folder`.

    Args:
        folder: an empty one.
        shape: of the model's adapter.
        count: of boards.
        aggregation: lines for that table of hub.toml.
        database: URL of its ledger; empty: a file.
    """
    made_hub(folder, shape.table, LABELS, FEATURES, database)
    config = folder / "hub" / "hub.toml"
    text = config.read_text().replace("rank = 16", f"rank = {shape.rank}")
    config.write_text(text.replace("[aggregation]\n", f"[aggregation]\n{aggregation}\n"))
    keys = {f"board-{index}": new_key("device", f"board-{index}") for index in range(count)}
    home = registry.open_home(folder / "hub")
    with home.ledger.transaction() as tx:
        for name, key in keys.items():
            put_row(tx, t.devices, {"name": name, "key": key.public.line, "online": False})
    home.ledger.close()
    identities(folder / "hub", FLEET, list(keys))
    return keys


@dataclass(frozen=True)
class Running:
    """A hub that runs, and the broker that it is at."""

    folder: Path
    broker: Broker
    hub_pid: int
    broker_pid: int

    def ask(self, **request: Any) -> dict[str, Any]:
        """Ask it over its local socket."""
        return ask(self.folder, request)


@contextmanager
def running(
    folder: Path, outside: tuple[Broker, int] | None = None, core: int | None = SERVER_CORE
) -> Iterator[Running]:
    """`edgequilt hub up` on a hub's folder, with the mosquitto that it starts, or with one that is there.

    Raises:
        RuntimeError: it does not start.
    """
    kind = ["--broker", "mosquitto", "--port", "0"] if outside is None else ["--broker", url(outside[0])]
    command = [sys.executable, "edgequilt.py", "hub", "up", str(folder), *kind, "--web-port", "0", "--json"]
    with (folder / "up.log").open("wb") as log, child(command, core, stdout=-1, stderr=log) as process:
        line = first_line(process)
        if not line:
            raise RuntimeError(f"expected the hub to start, it says: {(folder / 'up.log').read_text()}")
        ready = json.loads(line)
        found = Broker(ready["host"], ready["port"], ready["tls"])
        pid = child_named(process.pid, "mosquitto") if outside is None else outside[1]
        yield Running(folder, found, process.pid, pid)


def url(broker: Broker) -> str:
    """As `--broker` takes it."""
    return repr(broker)


class Board(Device):
    """A board whose update is there before the job is; it notes when it began to send and when the receipt came."""

    prepared: bytes = b""
    began_s: float = 0.0
    ended_s: float = 0.0
    asked_again: int = 0
    asked_for: str = ""
    size: int = 0

    def payload(self, job: m.Job) -> bytes:
        """What was prepared."""
        return self.prepared

    def publish(self, job: m.Job, masked: bytes = b"") -> None:
        """Note the beginning; what is longer than a chunk is announced, as agents do."""
        self.announces = self.size > m.CHUNK_BYTES
        self.ended_s, self.began_s = 0.0, time.perf_counter()
        super().publish(job, masked)

    def send(self, update: str, indexes: tuple[int, ...]) -> None:
        """Pieces that are asked for need no beginning."""
        if not indexes:
            super().send(update, ())
            return
        for piece in cut(self.outbox[update].data, indexes):
            self.say(piece)
        self.say(m.Commit(self.sender(), update))

    def on_receipt(self, message: m.Receipt) -> None:
        """Note it, and forget what is receipted."""
        super().on_receipt(message)
        self.ended_s = time.perf_counter()
        self.sent.clear()

    def on_missing(self, message: m.Missing) -> None:
        """The hub asks for pieces, more than once if some were lost."""
        self.asked_again += message.update == self.asked_for
        self.asked_for = message.update
        super().on_missing(message)


Kind = TypeVar("Kind", bound=Board)


def board(
    name: str,
    key: PrivateKey,
    hub_folder: Path,
    shape: Shape,
    transport: Transport,
    boot: str,
    kind: type[Kind] = Board,  # type: ignore[assignment]  # what is asked for, or a Board
) -> Kind:
    """A board that does not begin before it is told to."""
    made = kind(
        name,
        key,
        read_public_key(hub_folder / "hub.pub", "hub"),
        FLEET,
        MODEL,
        transport,
        shape.rank,
        np.zeros((SAMPLES, FEATURES), np.float32),
        np.zeros(SAMPLES, np.int64),
        len(LABELS),
        lambda slot, lora: lora,
        boot=boot,
        chunk_bytes=m.CHUNK_BYTES,
    )
    made.jobs_held, made.size = True, len(shape.update("0" * 64, 0))
    return made


def connect(crowd: Crowd, boards: Sequence[Board], timeout_s: float = START_S) -> None:
    """Let all of them in; they say hello."""
    for one in boards:
        one.start()
    crowd.until(lambda: all(one.transport.subscribed for one in boards), timeout_s, "every board to be connected")  # type: ignore[attr-defined]  # of a Member


def asked(crowd: Crowd, boards: Sequence[Board], timeout_s: float = START_S) -> None:
    """Wait until each has its job, and all that it needs for it."""

    def ready(one: Board) -> bool:
        return bool(one.waiting) and all(
            v in one.versions and one.has(one.versions[v]) for job in one.waiting.values() for v in job.versions
        )

    crowd.until(lambda: all(map(ready, boards)), timeout_s, "every board to have its job")


def open_round(hub: Running, boards: int, crowd: Crowd, timeout_s: float = START_S) -> int:
    """Open a round of training as soon as all boards are online; its number.

    Raises:
        TimeoutError: they are not.
    """
    online = 0

    def all_online() -> bool:
        nonlocal online
        online = sum(bool(d["online"]) for d in hub.ask(request="status")["devices"])
        return online >= boards

    crowd.until(all_online, timeout_s, f"{boards} boards online")
    return int(hub.ask(request="open", kind="train")["round"])
