"""A front and its tail in one process, from one bundle that was made by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from console.errors import EdgequiltError
from edge.chain import Chain
from edge.split.channel import Channel, Ends, Note
from edge.split.desk import serve
from edge.split.job import session_of
from edge.split.tail import Session
from edge.train import TrainSettings
from tests.edge.bundles import make_bundle, trust_of
from wire.adapter import Adapter
from wire.borders import Border, Split
from wire.bundle import Bundle, open_bundle

SILENCE_S = 20.0


def whole(folder: Path, segments: tuple[int, ...] = (1, 1, 1), **more: Any) -> Bundle:
    """A model of tanh layers with a cut between neighbours."""
    key = make_bundle(folder, segments=segments, **more)
    bundle = open_bundle(folder, trust_of(key))
    tail = Split("made-by-hand", "tail", "server", ())
    return replace(bundle, manifest=replace(bundle.manifest, split=tail))


def front_of(bundle: Bundle, depth: int, *, backward: bool = True) -> Bundle:
    """Its first segments, as a board would hold them; with their backward graphs or without."""
    m = bundle.manifest
    kept = m.segments[:depth]
    if not backward:
        kept = tuple(replace(s, graphs=tuple(g for g in s.graphs if g.kind != "backward")) for s in kept)
    names = {segment.name for segment in kept}
    slots = tuple(slot for slot in m.slots if slot.segment in names)
    crossing = kept[-1].outputs
    border = Border(depth, crossing, crossing, (), kept[-1].name, ("board",), crossing[0], 1)
    split = Split("made-by-hand", "front", "server", (border,))
    return replace(bundle, manifest=replace(m, segments=kept, slots=slots, head=None, split=split))


@dataclass
class Tail:
    """A tail that serves one board from a thread."""

    bundle: Bundle
    adapter: Adapter
    settings: TrainSettings
    channel: Channel
    made: list[Session] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Until the board ends or something does not fit."""
        chain = Chain(self.bundle, room_bytes=1 << 30)
        try:
            serve(
                self.channel,
                lambda wish: session_of(chain, self.adapter, self.settings, wish),
                self.made.append,
                SILENCE_S,
            )
        except EdgequiltError as error:
            self.problems.append(str(error))


@dataclass
class Listened:
    """A channel of which a test keeps what the board says."""

    channel: Channel
    said: list[Note]

    def send(self, note: Note) -> None:
        """Pass it on."""
        self.said.append(note)
        self.channel.send(note)

    def receive(self, timeout_s: float) -> Note | None:
        """As it comes."""
        return self.channel.receive(timeout_s)


@dataclass
class Patient:
    """A channel that waits for as long as it takes, whatever it is told."""

    channel: Channel

    def send(self, note: Note) -> None:
        """Pass it on."""
        self.channel.send(note)

    def receive(self, timeout_s: float) -> Note | None:
        """As it comes."""
        return self.channel.receive(SILENCE_S)


def beside(
    bundle: Bundle, adapter: Adapter, settings: TrainSettings, act: Callable[[Channel], Any]
) -> tuple[Any, Tail]:
    """What a board does while a tail serves it; both results."""
    ends = Ends()
    tail = Tail(bundle, adapter, settings, ends.tail)
    thread = threading.Thread(target=tail.run, daemon=True)
    thread.start()
    found = act(ends.board)
    thread.join(20)
    return found, tail
