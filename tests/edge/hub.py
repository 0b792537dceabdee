"""A small honest hub that speaks wire: it opens jobs, takes updates, gives receipts, serves blobs.

It repeats itself until it has what it wants, since the network loses; it counts each update once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.edge.bundles import MODEL
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.chunks import Assembly, cut
from wire.envelope import Trust, seal, unseal
from wire.files import digest
from wire.keys import PrivateKey, new_key
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.ladder import rungs, slot_key, spare_columns
from wire.manifest import Manifest
from wire.messages import (
    Begin,
    Canary,
    Cancel,
    Commit,
    Failed,
    Fetch,
    Hello,
    Job,
    Missing,
    Receipt,
    Release,
    Rung,
    Version,
    decode,
    encode,
)
from wire.messages import Chunk as ChunkMessage
from wire.topics import entry_of, hub_subscriptions, parse_topic, topic_of
from wire.transport import Transport

FLEET = "farm"


@dataclass
class ScriptedHub:
    """One model, any devices. `trust` holds their keys."""

    transport: Transport
    trust: Trust
    key: PrivateKey = field(default_factory=lambda: new_key("hub", "hub"))
    blobs: dict[str, bytes] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    open: dict[str, Job] = field(default_factory=dict)
    begins: dict[str, Begin] = field(default_factory=dict)
    parts: dict[str, Assembly] = field(default_factory=dict)
    accepted: dict[str, tuple[Begin, bytes]] = field(default_factory=dict)  # update -> what came
    failed: dict[str, str] = field(default_factory=dict)
    hellos: list[Hello] = field(default_factory=list)
    fetches: list[Fetch] = field(default_factory=list)
    deaf: bool = False  # takes updates but gives no receipts

    def start(self) -> None:
        """Listen."""
        self.transport.start(self.hear, lambda up: None)
        for pattern in hub_subscriptions(FLEET, MODEL):
            self.transport.subscribe(pattern)

    def publish_version(
        self,
        manifest: Manifest,
        number: int = 0,
        rank: int = 4,
        seed: int = 0,
        *,
        head: bool = True,
        announce: bool = True,
        key: PrivateKey | None = None,
    ) -> str:
        """Make a version with random factors, publish it, return its digest."""
        generator = np.random.default_rng(seed)
        pieces = []
        ladder = {
            s.name: (
                spare_columns(s.features_in, rank, slot_key(MODEL, s.name, number)),
                generator.normal(0, 0.2, (rank, s.features_out)) * (number > 0),
            )
            for s in manifest.slots
        }
        for low, high in rungs(rank):
            lora = {
                n: Lora(a[:, low:high].astype(np.float32), b[low:high].astype(np.float32), 2.0)
                for n, (a, b) in ladder.items()
            }
            data = to_bytes(Adapter(MODEL, "", lora))
            pieces.append(Rung(low, high, self.keep(data), len(data)))
        name, size = "", 0
        if head and manifest.head is not None:
            shape = (manifest.head.features, len(manifest.labels))
            weight = generator.normal(0, 1, shape).astype(np.float32)
            data = to_bytes(Adapter(MODEL, "", heads={0: Head(weight, np.zeros(shape[1], np.float32))}))
            name, size = self.keep(data), len(data)
        version = Version(MODEL, number, "", rank, 2.0, tuple(pieces), manifest.labels, name, size)
        body = encode(version)
        self.bodies[digest(body)] = body
        if announce:
            self.say("all", Version.TYPE, body, key=key)
        return digest(body)

    def keep(self, data: bytes) -> str:
        """Hold a blob."""
        self.blobs[digest(data)] = data
        return digest(data)

    def release(self, version: str, sequence: int, number: int = 0, key: PrivateKey | None = None) -> None:
        """Name the version to serve."""
        self.say("all", Release.TYPE, encode(Release(MODEL, sequence, number, version)), key=key)

    def canary(self, version: str, sequence: int, number: int, device: str, topic: str = "") -> None:
        """Name the version that one device serves on trial; `topic` is whose topic it is said on."""
        self.say("down", Canary.TYPE, encode(Canary(device, MODEL, sequence, number, version)), topic or device)

    def ask(self, job: Job) -> None:
        """Open a job; `nag` says it again until it is done."""
        self.open[job.job] = job
        self.nag()

    def nag(self) -> None:
        """Say every open job again."""
        for job in list(self.open.values()):
            self.say("down", Job.TYPE, encode(job), job.device)

    def cancel(self, job: Job) -> None:
        """No longer wait."""
        self.open.pop(job.job, None)
        self.say("down", Cancel.TYPE, encode(Cancel(job.device, job.job)), job.device)

    def say(self, direction: str, kind: str, body: bytes, device: str = "", key: PrivateKey | None = None) -> None:
        """Sign and publish."""
        entry = entry_of(direction, kind)
        payload = seal(key or self.key, body)
        topic = topic_of(FLEET, MODEL, direction, kind, device)
        self.transport.publish(topic, payload, qos=entry.qos, retain=entry.retain)

    def hear(self, topic: str, payload: bytes) -> None:
        """Take a delivery."""
        address = parse_topic(topic)
        if address is None or address.topic.direction != "up":
            return
        kind = address.topic.message
        if kind is ChunkMessage:
            chunk = decode(payload, ChunkMessage)
            if chunk.blob in self.parts:
                self.parts[chunk.blob].add(chunk)
            return
        body, signer = unseal(payload, "device", self.trust, "a message")
        message: Any = decode(body, kind)
        assert signer.name == address.device == message.sender.device
        handlers: dict[Any, Callable[[str, Any], None]] = {
            Begin: self._begin,
            Commit: self._commit,
            Fetch: self._fetch,
            Failed: self._failed,
        }
        if kind in handlers:
            handlers[kind](address.device, message)
        elif kind is Hello:
            self.hellos.append(message)

    def _begin(self, device: str, begin: Begin) -> None:
        self.begins[begin.update] = begin
        self.parts.setdefault(begin.update, Assembly(begin.update, begin.bytes))

    def _commit(self, device: str, commit: Commit) -> None:
        name = commit.update
        if self.deaf:
            return
        if name in self.accepted:
            self._receipt(device, name, "duplicate")
            return
        assembly = self.parts.get(name)
        missing = () if assembly is None else assembly.missing()
        data = None if assembly is None or missing else assembly.join()
        if data is None:
            self.say("down", Missing.TYPE, encode(Missing(device, name, missing, assembly is None)), device)
            return
        begin = self.begins[name]
        if begin.kind != "scores":
            read_adapter(data, "an update")
        self.accepted[name] = (begin, data)
        self.open.pop(begin.job, None)
        self._receipt(device, name, "accepted")

    def _receipt(self, device: str, update: str, status: Any) -> None:
        self.say("down", Receipt.TYPE, encode(Receipt(device, update, status)), device)

    def _fetch(self, device: str, fetch: Fetch) -> None:
        self.fetches.append(fetch)
        data = self.blobs.get(fetch.blob) or self.bodies.get(fetch.blob)
        for chunk in cut(data, fetch.indexes) if data is not None else []:
            topic = topic_of(FLEET, MODEL, "down", ChunkMessage.TYPE, device)
            self.transport.publish(topic, encode(chunk))

    def _failed(self, device: str, failed: Failed) -> None:
        self.failed[failed.job] = failed.reason
        self.open.pop(failed.job, None)
