"""Updates that arrive in pieces: what keeps them, and how much of each is here."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from wire.chunks import Assembly, ranges_of
from wire.messages import Begin, Chunk
from wire.record import plain

Key = tuple[str, str]  # device, digest
Entry = tuple[Key, int, int, float]  # key, round, bytes, time of the last change


@dataclass(frozen=True)
class Partial:
    """An update that is on its way, as it was when somebody looked."""

    begin: Begin
    committed: bool
    present: tuple[bool, ...]  # by chunk

    @property
    def missing(self) -> tuple[tuple[int, int], ...]:
        """First and last index of each run of chunks still to come."""
        return ranges_of(i for i, here in enumerate(self.present) if not here)

    @property
    def whole(self) -> bool:
        """Whether all chunks are here."""
        return all(self.present)


class Partials(Protocol):
    """What keeps partial updates by (device, digest); several hub workers may share one."""

    def put(self, begin: Begin) -> None:
        """Expect an update. What has arrived of it stays, unless its size or the size of its chunks is another."""

    def add(self, device: str, chunk: Chunk) -> bool:
        """Take a chunk, if it belongs anywhere; whether an update is whole now whose commit is here."""

    def commit(self, device: str, update: str) -> None:
        """Note that all was sent."""

    def get(self, device: str, update: str) -> Partial | None:
        """What is here of an update; None: not even its beginning."""

    def join(self, device: str, update: str) -> bytes | None:
        """The bytes; None where they are not those of the digest, and then all of them are forgotten."""

    def drop(self, device: str, update: str) -> None:
        """Forget an update."""

    def alone(self, device: str, update: str) -> AbstractContextManager[bool]:
        """A context in which nobody else completes the update; False where somebody else does just now."""

    def entries(self) -> list[Entry]:
        """What is kept, the one changed longest ago first."""


@dataclass
class _Held:
    begin: Begin
    assembly: Assembly
    committed: bool = False
    at_s: float = field(default_factory=time.time)


class MemoryPartials:
    """Partial updates of one process, which end with it."""

    def __init__(self) -> None:
        self._held: dict[Key, _Held] = {}

    def put(self, begin: Begin) -> None:
        """Expect an update."""
        key = (begin.sender.device, begin.update)
        known = self._held.get(key)
        if known is None or shape(known.begin) != shape(begin):
            known = self._held[key] = _Held(begin, Assembly(begin.update, begin.bytes, begin.chunk_bytes))
        known.begin = begin

    def add(self, device: str, chunk: Chunk) -> bool:
        """Take a chunk."""
        held = self._held.get((device, chunk.blob))
        if held is None or not held.assembly.add(chunk):
            return False
        return held.committed and not held.assembly.missing()

    def commit(self, device: str, update: str) -> None:
        """Note that all was sent."""
        held = self._held.get((device, update))
        if held is not None:
            held.committed = True

    def get(self, device: str, update: str) -> Partial | None:
        """What is here of an update."""
        held = self._held.get((device, update))
        if held is None:
            return None
        parts = held.assembly.parts
        return Partial(held.begin, held.committed, tuple(i in parts for i in range(held.assembly.total)))

    def join(self, device: str, update: str) -> bytes | None:
        """The bytes of an update whose chunks are all here, if they are what they should be."""
        held = self._held.get((device, update))
        return None if held is None else held.assembly.join()

    def drop(self, device: str, update: str) -> None:
        """Forget an update."""
        self._held.pop((device, update), None)

    def alone(self, device: str, update: str) -> AbstractContextManager[bool]:
        """One process, one thread: always alone."""
        return nullcontext((device, update) in self._held)

    def entries(self) -> list[Entry]:
        """What is kept."""
        return [(key, held.begin.round, held.begin.bytes, held.at_s) for key, held in self._held.items()]


class SmallApart:
    """Updates of one chunk stay in memory: none of them is ever half here, and a file for each would cost more."""

    def __init__(self, large: Partials) -> None:
        self._small, self._large = MemoryPartials(), large

    def put(self, begin: Begin) -> None:
        """Expect an update."""
        if begin.bytes <= begin.chunk_bytes:
            self._small.put(begin)
        else:
            self._small.drop(begin.sender.device, begin.update)
            self._large.put(begin)

    def add(self, device: str, chunk: Chunk) -> bool:
        """Take a chunk."""
        return self._of(device, chunk.blob).add(device, chunk)

    def commit(self, device: str, update: str) -> None:
        """Note that all was sent."""
        self._of(device, update).commit(device, update)

    def get(self, device: str, update: str) -> Partial | None:
        """What is here of an update."""
        return self._of(device, update).get(device, update)

    def join(self, device: str, update: str) -> bytes | None:
        """The bytes of an update whose chunks are all here, if they are what they should be."""
        return self._of(device, update).join(device, update)

    def drop(self, device: str, update: str) -> None:
        """Forget an update."""
        self._of(device, update).drop(device, update)

    def alone(self, device: str, update: str) -> AbstractContextManager[bool]:
        """Nobody else completes the update meanwhile."""
        return self._of(device, update).alone(device, update)

    def entries(self) -> list[Entry]:
        """What is kept."""
        return sorted([*self._large.entries(), *self._small.entries()], key=lambda entry: entry[3])

    def _of(self, device: str, update: str) -> Partials:
        return self._large if self._small.get(device, update) is None else self._small


def shape(begin: Begin) -> tuple[int, int]:
    """What the places of chunks depend on."""
    return begin.bytes, begin.chunk_bytes


def said(begin: Begin) -> dict[str, object]:
    """What a beginning says of the update, whoever says it how often."""
    return {key: value for key, value in plain(begin).items() if key != "sender"}
