"""Two agents whose workers play the halves of a split job, and what lies between them."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge import events as ev
from edge.config import Config
from edge.core import Core
from edge.link import WorkerLink
from edge.setup import prepare
from edge.split.table import Door
from hub import authority
from tests.edge.boards import Board, make_board
from tests.edge.bundles import MODEL
from tests.edge.hub import FLEET
from tests.hub.brokers.places import PlainMosquitto, TlsMosquitto
from wire.files import digest
from wire.keys import PublicKey
from wire.memory import MemoryTransport, Network
from wire.messages import Job, Version, encode
from wire.tls import new_request
from wire.transport import Transport

BARN, COOP = "barn", "coop"  # the board, the tail
JOB = "r1-train-barn"
PATIENCE_S = 90.0
COMMAND = (sys.executable, "-m", "tests.edge.split.acts")


class InMemory:
    """The network in memory."""

    def __init__(self, folder: Path, **bad: float) -> None:
        self.network = Network(seed=5, **bad)  # type: ignore[arg-type]  # probabilities

    def transport(self, name: str) -> Transport:
        return MemoryTransport(self.network, name)

    def settle(self) -> None:
        self.network.pump()

    def close(self) -> None:
        """Nothing runs."""


class Lossy(InMemory):
    """The same, which loses, repeats, reorders and bends."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lose=0.15, repeat=0.3, reorder=0.5, corrupt=0.05)


class ByBroker:
    """mosquitto with TLS and the access list, as the hub starts it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.place = TlsMosquitto(folder)

    def transport(self, name: str) -> Transport:
        return self.place.transport(name)

    def settle(self) -> None:
        """The network does it."""

    def close(self) -> None:
        self.place.close()


class ByPlainBroker(ByBroker):
    """mosquitto that lets anybody in."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.place = PlainMosquitto(folder)  # type: ignore[assignment]  # the same to us


class Direct(InMemory):
    """A TLS connection between the two, with certificates of the fleet; the broker lets them not speak at all."""

    def __init__(self, folder: Path, alone: bool = True, **bad: float) -> None:
        super().__init__(folder, **bad)
        folder.mkdir()
        self.folder, self.found = folder, authority.create(FLEET, folder)
        if alone:
            self.network.may_write = lambda name, topic: "/peer/" not in topic
        for name in (BARN, COOP):
            self.certify(name)
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])

    def certify(self, name: str) -> None:
        """A certificate, as the hub gives it."""
        _, request = new_request(name, self.folder)
        (self.folder / f"{name}.pem").write_bytes(authority.issue_device(self.found, name, request.read_bytes()))

    def configured(self, config: Config) -> Config:
        """With its certificate; the tail listens."""
        ca, own, key = (self.folder / name for name in ("ca.pem", f"{config.name}.pem", f"{config.name}.tls.key"))
        broker = replace(config.broker, ca=str(ca), certificate=str(own), key=str(key))
        door = Door("127.0.0.1", self.port, f"127.0.0.1:{self.port}", ca, own, key)
        return replace(config, broker=broker, split=door if config.name == COOP else None)


class DirectOrBroker(Direct):
    """The same, and a broker that loses a tenth."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, alone=False, lose=0.1)


PLACES: dict[str, Any] = {
    "memory": InMemory,
    "memory that loses": Lossy,
    "direct": Direct,
    "direct or broker": DirectOrBroker,
    "mosquitto": ByPlainBroker,
    "mosquitto with TLS": ByBroker,
}


class Two:
    """Both agents; time passes `faster` than it does."""

    def __init__(self, place: Any, boards: dict[str, Board], faster: float) -> None:
        self.place, self.boards, self._faster = place, boards, faster
        self.cores, self.events = dict[str, Core](), list[Any]()
        self.links = dict[str, WorkerLink]()
        self.key: dict[str, PublicKey] = {name: board.key.public for name, board in boards.items()}
        for name in boards:
            self.start(name)
        self.run(lambda: all(core.life.connected for core in self.cores.values()))

    def clock(self) -> float:
        return time.monotonic() * self._faster

    def start(self, name: str) -> Core:
        """Start an agent with an empty state folder."""
        board = self.boards[name]
        shutil.rmtree(board.config.state, ignore_errors=True)
        configured = getattr(self.place, "configured", lambda config: config)
        config = configured(board.config)
        setup = replace(prepare(config), jobs=("train", "front", "tail"))
        link = WorkerLink(None, 60.0, 1, COMMAND)
        core = Core(setup, self.place.transport(name), link, self.clock)
        self.links[name], self.cores[name] = link, core
        core.start()
        return core

    def kill(self, name: str) -> None:
        """An agent ends as by a power cut: nothing is said."""
        core = self.cores.pop(name)
        self.links[name].close()
        core.transport.close()
        assert core.setup.lock is not None
        core.setup.lock.close()

    def ask(self, name: str, job: str = JOB, *, other: str = "", key: str = "", **play: Any) -> None:
        """The hub gives a job, of which it has told the version before."""
        core = self.cores[name]
        body = encode(Version(MODEL, 0, "", 2, 2.0, (), ("a", "b", "c")))
        core.store.save_version(body)
        other = other or (COOP if name == BARN else BARN)
        peer = {
            "tail" if name == BARN else "board": other,
            "key": key or self.key[other].line,
            "address": self.address(name),
        }
        settings = {"split": peer, "play": {"notes": 3, "bytes": 1000, **play}}
        kind, named = ("train", job) if name == BARN else ("tail", f"{job}.tail")
        core.happen(ev.JobCame(Job(name, named, kind, 1, (digest(body),), settings)))  # type: ignore[arg-type]  # of two kinds

    def address(self, name: str) -> str:
        """What the hub says of a tail's address, which the tail has told it."""
        return self.cores[COOP].crossings.address if name == BARN else ""

    def run(self, until: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
        """Let time pass until something holds."""
        ends_at = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < ends_at, f"not within {seconds:.0f} s: {self.told()}"
            self.place.settle()
            for core in self.cores.values():
                core.turn()
            time.sleep(0.002)

    def state(self, name: str) -> str:
        """What became of the job of an agent."""
        found = self.cores[name].status.jobs
        return str(found[max(found)].get("state")) if found else ""

    def reason(self, name: str) -> str:
        """Why it failed."""
        found = self.cores[name].status.jobs
        return str(found[max(found)].get("reason", "")) if found else ""

    def told(self) -> dict[str, Any]:
        return {name: (core.status.jobs, core.crossings.record()) for name, core in self.cores.items()}

    def counts(self, name: str) -> dict[str, Any]:
        """What its core counted."""
        return dict(self.cores[name].crossings.record().get("split", {}))

    def done(self) -> bool:
        """Whether both have an update that waits for its receipt."""
        return all(self.state(name) == "waiting" for name in (BARN, COOP))

    def close(self) -> None:
        """Both end."""
        for name in list(self.cores):
            self.kill(name)


def make_boards(folder: Path) -> dict[str, Board]:
    """The files of both."""
    return {name: make_board(folder / name, name) for name in (BARN, COOP)}


@contextmanager
def two(place: Any, boards: dict[str, Board], faster: float = 1.0) -> Iterator[Two]:
    """Both agents, which are ended afterwards."""
    made = Two(place, boards, faster)
    try:
        yield made
    finally:
        made.close()
        place.close()


assert FLEET == "farm"
