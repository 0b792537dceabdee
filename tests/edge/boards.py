"""Boards for tests: a bundle, data, keys and a state folder; and a link that does jobs in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.errors import EdgequiltError
from edge.config import BrokerTable, Config
from edge.core import Core
from edge.jobs import Desk, perform
from edge.link import Emit, Link
from edge.request import Request
from edge.setup import Setup, prepare
from tests.edge.bundles import VOCABULARY, make_bundle
from tests.edge.hub import FLEET, ScriptedHub
from wire.envelope import Trust
from wire.keys import PrivateKey, new_key, write_key
from wire.manifest import Manifest, parse_manifest
from wire.memory import MemoryTransport, Network
from wire.messages import Job

LABELS = ("a", "b", "c")
NAME = "barn-1"


def write_data(path: Path, rows: int = 24, labels: Sequence[str] = LABELS) -> None:
    """Texts of the small vocabulary."""
    words = VOCABULARY[2:]
    lines = [
        {"text": f"{words[i % 6]} {words[(i // 6) % 6]} {words[i // 36]}", "label": labels[i % len(labels)]}
        for i in range(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@dataclass
class Clock:
    """A clock that tests move."""

    at: float = 0.0

    def __call__(self) -> float:
        return self.at


class HereLink:
    """Does a job at once, in this process."""

    budget_bytes: int | None = None

    def __init__(self) -> None:
        self.desk, self.done = Desk(), list[str]()
        self._emit: Emit = lambda kind, fields: None

    def start(self, emit: Emit) -> None:
        self._emit = emit

    def submit(self, request: Request) -> None:
        self.done.append(request.id)
        try:
            result = perform(self.desk, request)
            self._emit("result", {"id": result.id, "samples": result.samples, "metrics": result.metrics})
        except EdgequiltError as error:
            self._emit("error", {"id": request.id, "reason": str(error)})

    def tell(self, kind: str, fields: dict[str, Any]) -> None:
        pass

    def stop(self) -> None:
        pass

    def hold(self, why: str) -> None:
        pass

    def release(self, why: str) -> None:
        pass

    def poll(self) -> float | None:
        return None

    def close(self) -> None:
        self.desk.close()

    def another(self) -> HereLink:
        return type(self)()


@dataclass
class Board:
    """Everything of one device but its core, which comes and goes."""

    folder: Path
    config: Config
    manifest: Manifest
    key: PrivateKey
    publisher: PrivateKey

    @property
    def bundle(self) -> Path:
        """Its folder."""
        return self.folder / "bundle"


def make_board(folder: Path, name: str = NAME, rows: int = 24, **bundle: Any) -> Board:
    """Write a board's files."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle.setdefault("kind", "text")
    publisher = make_bundle(folder / "bundle", **bundle)
    write_data(folder / "data.jsonl", rows)
    key, hub = new_key("device", name), new_key("hub", "hub")
    for made in (key, hub, publisher):
        write_key(made, folder / "keys")
    config = Config(
        name,
        FLEET,
        folder / "bundle",
        folder / "state",
        folder / "data.jsonl",
        0.25,
        1,
        20.0,
        None,
        BrokerTable("mqtt://127.0.0.1:1"),
        folder / "keys" / f"{name}.key",
        (folder / "keys" / "hub.pub",),
        (folder / "keys" / f"{publisher.public.name}.pub",),
    )
    manifest = parse_manifest((folder / "bundle" / "manifest.json").read_bytes())
    return Board(folder, config, manifest, key, publisher)


def hub_key(board: Board) -> PrivateKey:
    """The key that the board's agent trusts as hub."""
    from wire.keys import read_private_key

    return read_private_key(board.folder / "keys" / "hub.key")


@dataclass
class Farm:
    """A network, a hub, and one agent that can be killed and started again."""

    board: Board
    network: Network
    link: Link
    clock: Clock = field(default_factory=Clock)
    core: Core | None = None
    transport: MemoryTransport | None = None

    def __post_init__(self) -> None:
        trust = Trust([self.board.key.public])
        self.hub = ScriptedHub(MemoryTransport(self.network, "hub"), trust, hub_key(self.board))
        self.hub.start()

    def start(self) -> Core:
        """Start the agent."""
        setup = self.setup()
        self.transport = MemoryTransport(self.network, self.board.config.name, setup.voice.will())
        self.core = Core(setup, self.transport, self.link, self.clock)
        self.core.start()
        return self.core

    def setup(self) -> Setup:
        """What the agent would start with."""
        return prepare(self.board.config)

    def kill(self) -> None:
        """Drop the agent as a power cut would: nothing is said, nothing is written."""
        assert self.core is not None
        assert self.transport is not None
        self.transport.drop()
        assert self.core.setup.lock is not None
        self.core.setup.lock.close()
        self.core = None

    def run(self, until: Any = lambda: False, seconds: float = 400.0, nag: bool = True) -> bool:
        """Let time pass until something holds; returns whether it does."""
        end = self.clock.at + seconds
        while self.clock.at < end:
            self.network.pump()
            if self.core is not None:
                self.core.turn()
            self.network.pump()
            if self.core is not None:
                self.core.turn()
            if until():
                return True
            self.clock.at += 1.0
            if nag and int(self.clock.at) % 10 == 0:
                self.hub.nag()
        return bool(until())

    def unanswered(self, manifest: Manifest) -> str:
        """Have the board train for a hub that answers no more; the name of the update that it then keeps."""
        self.hub.deaf = True
        self.hub.ask(jobs(self.hub.publish_version(manifest, 1))[0])
        assert self.core is not None
        outbox = self.core.outbox
        self.run(lambda: bool(outbox.updates), seconds=20)
        (name,) = outbox.updates
        return name


def jobs(version: str, round_: int = 1) -> list[Job]:
    """One of each kind."""
    train = {"steps": 2, "batch": 4, "learning_rate": 0.01, "seed": 3}
    return [
        Job(NAME, f"r{round_}-train-{NAME}", "train", round_, (version,), train),
        Job(NAME, f"r{round_}-statistics-{NAME}", "statistics", round_, (version,)),
        Job(NAME, f"r{round_}-gate-{NAME}", "evaluate", round_, (version,), {"ranks": [1, 2]}),
    ]


def status(board: Board) -> dict[str, Any]:
    """What the agent says of itself."""
    found: dict[str, Any] = json.loads((board.config.state / "status.json").read_text())
    return found
