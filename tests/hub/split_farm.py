"""The real hub and real agents with real workers: boards with fronts, and devices that have their tails."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from edge.config import Config
from edge.core import Core
from edge.link import WorkerLink
from edge.setup import prepare
from hub.making import versions
from hub.requests.answer import answer
from hub.serving.service import Service
from hub.store import registry
from tests.edge.boards import Board, hub_key, make_board, write_data
from tests.edge.hub import FLEET
from wire import manifest as mf
from wire.adapter import read_adapter
from wire.borders import Border, Split
from wire.bundle import MANIFEST, SIGNATURE
from wire.envelope import detached
from wire.keys import PrivateKey, new_key, write_key
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.memory import MemoryTransport, Network
from wire.messages import Version

SEGMENTS = (1, 1, 1)
EXPORT = "tiny-split"
PATIENCE_S = 240.0


def halve(
    folder: Path,
    key: PrivateKey,
    role: Literal["front", "tail"],
    depths: dict[str, int],
    left_out: Container[str] = (),
) -> None:
    """Make a bundle of the whole model a front of some segments, or the tail of some boards, and sign it anew.

    Graphs of a kind that is left out are not listed.
    """
    whole = mf.parse_manifest((folder / MANIFEST).read_bytes())
    front, (first, *_) = role == "front", depths.values()
    borders = tuple(_border(whole, board, depth, front=front) for board, depth in depths.items())
    made = replace(whole, split=Split(EXPORT, role, "server", borders))
    if front:
        kept = tuple(
            replace(s, graphs=tuple(g for g in s.graphs if g.kind not in left_out)) for s in whole.segments[:first]
        )
        names = {segment.name for segment in kept}
        slots = tuple(slot for slot in whole.slots if slot.segment in names)
        device = next(iter(depths))
        made = replace(made, segments=kept, slots=slots, head=None, plan=replace(whole.plan, device=device))
    body = mf.to_bytes(made)
    (folder / MANIFEST).write_bytes(body)
    (folder / SIGNATURE).write_bytes(detached(key, body))


def ranked(folder: Path, key: PrivateKey, rank: int) -> None:
    """Make a bundle one of another rank, and sign it anew."""
    whole = mf.parse_manifest((folder / MANIFEST).read_bytes())
    body = mf.to_bytes(replace(whole, plan=replace(whole.plan, rank=rank)))
    (folder / MANIFEST).write_bytes(body)
    (folder / SIGNATURE).write_bytes(detached(key, body))


def tiny(folder: Path) -> Board:
    """A whole model of three segments that labels texts."""
    return make_board(folder, "whole", segments=SEGMENTS, device="server")


def _border(whole: mf.Manifest, board: str, depth: int, *, front: bool) -> Border:
    before, after = whole.segments[depth - 1], whole.segments[depth]
    return Border(depth, before.outputs, after.differentiable, (), (before if front else after).name, (board,))


@dataclass
class SplitFarm:
    """A hub and its agents; `run` opens a round and lets time pass until it is over.

    Args:
        folder: of everything.
        depths: of the boards with fronts, by name; 0: the board has the whole model.
        tails: names.
        forward: boards whose fronts have no backward graphs.
        model: writes the whole model.
        write: writes the data of a board, so many rows.
        ranks: of boards, where they are not the whole model's.
    """

    folder: Path
    depths: dict[str, int]
    tails: tuple[str, ...] = ("tail-1",)
    forward: tuple[str, ...] = ()
    model: Callable[[Path], Board] = tiny
    write: Callable[[Path, int], None] = write_data
    ranks: Mapping[str, int] = field(default_factory=dict)
    cores: dict[str, Core] = field(default_factory=dict)
    links: dict[str, WorkerLink] = field(default_factory=dict)
    configs: dict[str, Config] = field(default_factory=dict)
    network: Network = field(default_factory=Network)

    def __post_init__(self) -> None:
        self.first = self.model(self.folder / "whole")
        write_key(hub_key(self.first), self.folder / "hub")
        publisher = self.folder / "whole" / "keys" / f"{self.first.publisher.public.name}.pub"
        registry.create(self.folder / "hub", FLEET, [publisher], "127.0.0.1:0")
        fronts = {name: depth for name, depth in self.depths.items() if depth}
        if fronts:
            halve(self.first.bundle, self.first.publisher, "tail", fronts)
        home = registry.open_home(self.folder / "hub")
        registry.add_bundle(home, self.first.bundle)
        for at, name in enumerate((*self.depths, *self.tails)):
            self.configs[name] = self._config(home, name, at)
        home.ledger.close()
        self.hub = self.start_hub()
        for name in self.configs:
            self.start(name)
        self.wait(lambda: all(device["online"] for device in self.hub.home.ledger.devices()))

    def _config(self, home: registry.Home, name: str, at: int) -> Config:
        """An agent's files, and its key in the ledger."""
        key = new_key("device", name)
        place, depth, own = self.folder / name, self.depths.get(name, 0), name in self.ranks
        write_key(key, place)
        if depth or own:
            shutil.copytree(self.first.bundle, place / "bundle")
            left_out = ("backward",) if name in self.forward else ()
            if own:
                ranked(place / "bundle", self.first.publisher, self.ranks[name])
            if depth:
                halve(place / "bundle", self.first.publisher, "front", {name: depth}, left_out)
            registry.add_bundle(home, place / "bundle")
        registry.enroll(home, name, key.public.line)
        data = place / ("rows" if name in self.tails else "data.jsonl")  # a folder may hold nothing
        if name in self.tails:
            data.mkdir()
        else:
            self.write(data, 18 + 6 * at)
        return replace(
            self.first.config,
            name=name,
            bundle=place / "bundle" if depth or own else self.first.bundle,
            state=place / "state",
            data=data,
            device_key=place / f"{name}.key",
        )

    def start_hub(self) -> Service:
        """A hub on the folder; the one before it, if any, is dropped as a kill would."""
        if hasattr(self, "hub"):
            self.hub.home.ledger.close()
        made = Service(self.folder / "hub", MemoryTransport(self.network, "hub"), time.monotonic)
        made.start()
        return made

    def start(self, name: str) -> None:
        """An agent, with what its state folder holds."""
        setup = prepare(self.configs[name])
        self.links[name] = WorkerLink(None, 60.0, 1)
        transport = MemoryTransport(self.network, name, setup.voice.will())
        self.cores[name] = Core(setup, transport, self.links[name])
        self.cores[name].start()

    def kill(self, name: str) -> None:
        """An agent and its workers end as by SIGKILL; the broker says its last will."""
        core = self.cores.pop(name)
        core.seats.close()
        self.links[name].close()
        transport = core.transport
        assert isinstance(transport, MemoryTransport)
        transport.drop()
        assert core.setup.lock is not None
        core.setup.lock.close()

    def wait(self, until: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
        """Let time pass until something holds."""
        ends_at = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < ends_at, {name: core.status.jobs for name, core in self.cores.items()}
            self.network.pump()
            for core in list(self.cores.values()):
                core.turn()
            self.hub.tick()
            time.sleep(0.005)

    def ask(self, request: str, **told: Any) -> dict[str, Any]:
        """A request of the local socket, without the socket."""
        return answer(self.hub, {"request": request, **told})

    def show(self, number: int) -> dict[str, Any]:
        return self.ask("show", round=number)

    def run(self, kind: str = "train", **asked: Any) -> dict[str, Any]:
        """A round, of training if nothing else is said, and what became of it."""
        number = self.ask("open", kind=kind, **asked)["round"]
        self.wait(lambda: not self.hub.open_rounds)
        return self.show(number)

    def ladder(self) -> dict[str, Lora]:
        """The tip's factors by slot."""
        return versions.read_ladder(self._tip(), self.hub.home.blobs)

    def heads(self) -> dict[int, Head]:
        """The tip's heads by rank."""
        return dict(read_adapter(self.hub.home.blobs.get(self._tip().head), "the heads").heads)

    def _tip(self) -> Version:
        (model,) = self.hub.home.ledger.models()
        row = self.hub.home.ledger.version(model["tip"])
        assert row is not None
        return versions.read_made(row).version

    def close(self) -> None:
        """End all of it."""
        for name in list(self.cores):
            self.kill(name)
        self.hub.close()


@contextmanager
def farm(
    folder: Path,
    depths: dict[str, int],
    tails: tuple[str, ...] = ("tail-1",),
    forward: tuple[str, ...] = (),
    **more: Any,
) -> Iterator[SplitFarm]:
    """A farm that is ended afterwards."""
    made = SplitFarm(folder, depths, tails, forward, **more)
    try:
        yield made
    finally:
        made.close()


__all__ = ["Board", "SplitFarm", "farm"]
