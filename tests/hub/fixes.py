"""A hub, its server agent and a board on one network, all real but for the wires between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.assemble import read_version
from edge.core import Core
from edge.runner import Runner
from edge.setup import prepare
from hub.making.versions import Made, read_made
from hub.requests.answer import answer
from hub.serving.service import Service
from hub.store import registry
from tests.edge.boards import LABELS, Board, Clock, HereLink, make_board
from tests.edge.bundles import VOCABULARY
from tests.edge.hub import FLEET
from wire.bundle import open_bundle
from wire.keys import new_key, write_key
from wire.kinds.head import Head
from wire.memory import MemoryTransport, Network

WORDS = VOCABULARY[2:]
SERVER, BOARD = "server", "barn-1"


def write_rows(path: Path, rows: int = 120, seed: int = 0) -> None:
    """Texts of three words; the label is that of the first one, so that a linear head can tell them apart."""
    g = np.random.default_rng(seed)
    chosen = g.integers(0, len(WORDS), size=(rows, 2))
    lines = [
        {"text": f"{WORDS[i]} {WORDS[i]} {WORDS[i]} {WORDS[j]}", "label": LABELS[i % len(LABELS)]} for i, j in chosen
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def small_fleet(folder: Path, server: str = "server") -> Fleet:
    """A hub with a version in use, a server agent and one board that serves it; all in a second."""
    publisher = new_key("publisher", "tester")
    boards = {
        name: make_board(folder / name, name, key=publisher, device=device, rank=rank, forward_batch=32)
        for name, device, rank in ((SERVER, server, 4), (BOARD, "tester", 2))
    }
    for name, board in boards.items():
        write_rows(board.folder / "data.jsonl", seed=len(name))
    made = Fleet(folder, boards)
    made.run("statistics", devices=[BOARD])
    return made


class Fleet:
    """A hub, and agents of some boards."""

    def __init__(self, folder: Path, boards: dict[str, Board]) -> None:
        self.clock, self.network, self.boards = Clock(1000.0), Network(), boards
        self.model = next(iter(boards.values())).manifest.model.id
        hub, publisher = new_key("hub", "hub"), next(iter(boards.values())).config.publisher_keys[0]
        write_key(hub, folder / "hub")
        registry.create(folder / "hub", FLEET, [publisher], "127.0.0.1:0")
        home = registry.open_home(folder / "hub")
        for name, board in self.boards.items():
            (board.folder / "keys" / "hub.pub").write_text(hub.public.line + "\n")
            registry.add_bundle(home, board.config.bundle or board.bundle)
            registry.enroll(home, name, board.key.public.line)
        home.ledger.close()
        self.folder = folder / "hub"
        self.hub = self.start_hub()
        self.cores = {name: self.start(name) for name in self.boards}
        self.pass_time(3)

    def start_hub(self) -> Service:
        """A hub on the folder; the one before it is dropped as a kill would."""
        if hasattr(self, "hub"):
            self.hub.home.ledger.close()
        service = Service(self.folder, MemoryTransport(self.network, "hub"), self.clock)
        service.start()
        return service

    def start(self, name: str) -> Core:
        """An agent."""
        setup = prepare(self.boards[name].config)
        core = Core(setup, MemoryTransport(self.network, name, setup.voice.will()), HereLink(), self.clock)
        core.start()
        return core

    def pass_time(self, seconds: int = 1) -> None:
        """Deliver what is on its way."""
        for _ in range(seconds):
            self.network.pump()
            for core in self.cores.values():
                core.turn()
            self.hub.tick()
            self.clock.at += 1.0

    def ask(self, request: str, **told: Any) -> dict[str, Any]:
        """A request of the local socket, without the socket."""
        return answer(self.hub, {"request": request, **told})

    def run(self, kind: str, **told: Any) -> dict[str, Any]:
        """A round, and what became of it."""
        number = self.ask("open", kind=kind, **told)["round"]
        for _ in range(60):
            self.pass_time(2)
            found = self.ask("show", round=number)
            if not found["open"]:
                break
        self.pass_time(4)
        return found

    def fix(self, text: str, expect: str, paraphrases: tuple[str, ...] = (), **told: Any) -> dict[str, Any]:
        """A fix, and what became of it."""
        given = {"input": {"text": text}, "expect": expect, "paraphrases": [{"text": one} for one in paraphrases]}
        number = self.ask("fix", **given, by="ann", **told)["fix"]
        for _ in range(60):
            self.pass_time(2)
            found = self.ask("fix_shown", fix=number)
            if not found["open"]:
                break
        self.pass_time(4)
        return found

    @property
    def used(self) -> Made:
        """The version in use."""
        home = self.hub.home
        release = home.ledger.release(self.model)
        assert release is not None
        row = home.ledger.version(release["digest"])
        assert row is not None
        return read_made(row)

    def answers(self, texts: list[str]) -> list[str]:
        """What the board answers, by its own bundle and the blobs that it fetched."""
        core, board = self.cores[BOARD], self.boards[BOARD]
        served = core.store.served_of("tiny")
        assert served is not None
        version = core.store.version(served.digest)
        assert version is not None
        adapter = read_version(core.store.blobs, served.digest, version, board.manifest.plan.rank)
        runner = Runner(open_bundle(board.bundle, None))
        try:
            return [LABELS[int(row.argmax())] for row in runner.forward(texts, adapter).logits]
        finally:
            runner.close()

    def logits(self, texts: list[str], head: Head) -> NDArray[np.float64]:
        """The server agent's features, by numpy through a head."""
        runner = Runner(open_bundle(self.boards[SERVER].bundle, None))
        try:
            features = runner.forward(texts).features.astype(np.float64)
        finally:
            runner.close()
        found: NDArray[np.float64] = features @ head.weight + head.bias
        return found
