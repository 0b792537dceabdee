"""A hub whose boards hold fronts, with tails beside them: what both halves learn together is what one device would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tests.fleet import Device
from tests.hub.bundles import SLOTS, manifest, write_bundle
from tests.hub.world import World
from wire import messages as m
from wire.adapter import Adapter
from wire.borders import Border, Split
from wire.keys import new_key
from wire.manifest import Manifest
from wire.memory import MemoryTransport

FRONT = frozenset({"layer.0.query"})


@dataclass
class Tail(Device):
    """A device that has the tails of boards; it learns for each what that board would, had it the whole model."""

    boards: dict[str, Device] = field(default_factory=dict)

    def board(self, job: m.Job) -> Device:
        """Whose tail a job is."""
        return self.boards[job.settings["split"]["board"]]

    def publish(self, job: m.Job, masked: bytes = b"") -> None:
        """Of statistics a tail has nothing to send: the board has its features."""
        if job.settings["split"]["mode"] != "features":
            super().publish(job, masked)

    def rows(self, job: m.Job) -> int:
        """What came along."""
        return len(self.board(job).classes)

    def trained(self, job: m.Job, base: m.Version) -> Adapter:
        """What the board lacks, at its rank."""
        board = self.board(job)
        began = self.ladder(base, job.settings.get("rank", board.rank))
        rest = {n: w.prefix(board.rank) for n, w in began.items() if n not in (board.holds or began)}
        return Adapter(self.model, job.versions[0], {n: board.train(n, w) for n, w in rest.items()})


def front_of(
    holds: frozenset[str] = FRONT, export: str = "", planned: dict[str, int] | None = None
) -> tuple[Manifest, dict[str, bytes]]:
    """The bundle of a front; `export` says whose halves meet, `planned` what a plan of the fleet says of its steps."""
    slots = {name: shape for name, shape in SLOTS.items() if name in holds}
    made, files = manifest(slots, device="front")
    made = replace(made, plan=replace(made.plan, extra={**made.plan.extra, **(planned or {})}))
    return replace(made, head=None, split=split("front", export) if export else None), files


def split(role: Literal["front", "tail"], export: str) -> Split:
    """What a bundle of an export says of its halves."""
    crosses = "logits" if role == "front" else "x"  # what the segment makes, and what it takes; nobody here runs it
    return Split(export, role, "server", (Border(1, (crosses,), (), (), "segment-0", ("front",)),))


def put_front(
    world: World,
    folder: Path,
    names: tuple[str, ...],
    holds: frozenset[str] = FRONT,
    export: str = "",
    planned: dict[str, int] | None = None,
) -> None:
    """Let some devices run a front from now on."""
    made = write_bundle(folder, world.publisher, *front_of(holds, export, planned))
    sha = world.ask("add", folder=str(made))["bundle"]
    for name in names:
        device = world.devices[name]
        device.holds, device.bundle, device.jobs = holds, sha, ("front",)
        device.hello()
    world.network.pump()


def put_tail(world: World, name: str, bundle: str = "0" * 64) -> Tail:
    """Enroll and start a device that has tails."""
    key = new_key("device", name)
    world.ask("enroll", name=name, line=key.public.line)
    made = world.make_device(name, key, 16, 0)
    fields = {n: getattr(made, n) for n in Device.__dataclass_fields__}
    tail = Tail(**{**fields, "jobs": ("tail",), "bundle": bundle, "profile": "server"}, boards=dict(world.devices))
    world.devices[name] = tail
    tail.start()
    world.network.pump()
    return tail


def leave(world: World, name: str) -> None:
    """A device says that it goes, as its last will would, and hears nothing more."""
    device = world.devices[name]
    transport = device.transport
    assert isinstance(transport, MemoryTransport)
    world.network.pump()
    device.say(m.Presence(device.sender(), "offline"))
    transport.drop()
    world.network.pump()


def split_world(make_world: Callable[..., World], folder: Path) -> World:
    """Two boards with fronts and one with the whole model, and a tail."""
    made = make_world()
    put_tail(made, "tail-1")
    put_front(made, folder / "front", ("barn", "coop"))
    return made
