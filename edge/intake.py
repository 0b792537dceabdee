"""What comes in: topics and signatures are checked, chunks put together, messages turned into events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from console.errors import BadData, SignatureError
from edge import events as ev
from edge.setup import Setup
from edge.store import Store
from wire.chunks import Assembly, chunk_count, indexes_of
from wire.envelope import unseal
from wire.files import digest
from wire.messages import (
    UPDATE_LIMIT_BYTES,
    Assignment,
    Canary,
    Cancel,
    Chunk,
    HubKeys,
    Job,
    MaskOpen,
    MaskRoster,
    MaskSealed,
    MaskSurvivors,
    Missing,
    Program,
    Receipt,
    Release,
    Standing,
    Version,
    decode,
)
from wire.topics import Address, parse_topic

log = logging.getLogger("edgequilt.agent")
MOST_CHUNKS = chunk_count(UPDATE_LIMIT_BYTES)  # of any update


# what needs no look at the disk
_PLAIN: dict[type, Callable[[Any], Any]] = {
    Job: ev.JobCame,
    Cancel: lambda m: ev.Cancelled(m.job),
    Receipt: lambda m: ev.Receipted(m.update, m.status, m.reason),
    Missing: lambda m: ev.Wanted(m.update, indexes_of(m.ranges, MOST_CHUNKS) or m.indexes, m.begin),
    Assignment: ev.BundleNamed,
    Program: ev.ProgramNamed,
    HubKeys: ev.KeysCame,
    Standing: ev.StandingCame,
    MaskRoster: ev.MaskCame,
    MaskSealed: ev.MaskCame,
    MaskSurvivors: ev.MaskCame,
    MaskOpen: ev.MaskCame,
}


class Intake:
    """Turns deliveries into events of the protocol; keeps the blobs that are on their way."""

    def __init__(self, setup: Setup, store: Store) -> None:
        self._setup, self._store = setup, store
        self.asked: dict[str, Assembly | None] = {}  # None: a version, whose size nobody told

    def expect(self, name: str, size_bytes: int | None) -> tuple[int, ...]:
        """Take chunks of a blob from now on; the indexes still to come, none meaning all."""
        assembly = self.asked.setdefault(name, None if size_bytes is None else Assembly(name, size_bytes))
        if assembly is None or not assembly.parts:
            return ()
        return assembly.missing()

    def keep(self, names: frozenset[str]) -> None:
        """Of what is on its way nothing but these is wanted any more."""
        for name in self.asked.keys() - names:
            del self.asked[name]

    def read(self, topic: str, payload: bytes) -> list[Any]:
        """The events of a delivery; none for what is not ours.

        Raises:
            EdgequiltError: why a delivery is not believed.
        """
        address, own = parse_topic(topic), self._setup
        if address is None or not self._ours(address):
            return []
        kind = address.topic.message
        if kind is Chunk:
            return self._chunk(decode(payload, Chunk))
        body = payload
        if address.topic.signer:
            body, key = unseal(payload, address.topic.signer, own.hub, f"a {kind.TYPE} message")
            own.hub.heard(key)
        message = decode(body, kind)
        if address.device and message.device != own.name:
            raise SignatureError(f"expected a {kind.TYPE} for {own.name}, found one for {message.device}; ignored")
        if isinstance(message, (Version, Release, Canary)) and message.model != own.model:
            raise BadData(f"expected a {kind.TYPE} of {own.model}, found one of {message.model}; ignored")
        return self._events(message, body, payload)

    def _ours(self, address: Address) -> bool:
        """A broker may deliver what nobody subscribed to."""
        fleet, own = (address.fleet, address.model), self._setup
        for_us = address.topic.direction == "all" or (address.topic.direction == "down" and address.device == own.name)
        return for_us and fleet == (own.voice.fleet, own.model)

    def _events(self, message: Any, body: bytes, envelope: bytes) -> list[Any]:
        if isinstance(message, Version):
            name, _ = self._store.save_version(body, envelope)
            self.asked.pop(name, None)
            return [ev.Stored(name)]
        if isinstance(message, Canary):  # a release to us alone: the one order of sequences decides
            message = Release(message.model, message.sequence, message.version, message.digest)
        if isinstance(message, Release):
            return [ev.ReleaseCame(message)] if self._store.follow(message) else []
        return [_PLAIN[type(message)](message)]

    def _chunk(self, chunk: Chunk) -> list[Any]:
        if chunk.blob not in self.asked:
            return []
        assembly = self.asked[chunk.blob]
        if assembly is None:
            return self._fetched_version(chunk)
        if not assembly.add(chunk) or assembly.missing():
            return []
        data = assembly.join()
        if data is None:
            log.warning("blob %s came with wrong bytes and is fetched again", chunk.blob[:12])
            return []
        self._store.save_blob(chunk.blob, data)
        del self.asked[chunk.blob]
        return [ev.Stored(chunk.blob)]

    def _fetched_version(self, chunk: Chunk) -> list[Any]:
        """A version that a signed job or release named, fetched by its digest: its own signature is not needed."""
        if chunk.total != 1 or digest(chunk.data) != chunk.blob:
            return []
        if decode(chunk.data, Version).model != self._setup.model:
            return []
        self._store.save_version(chunk.data)
        self.asked.pop(chunk.blob, None)
        return [ev.Stored(chunk.blob)]
