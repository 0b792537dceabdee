"""A small honest device: real keys, real envelopes, the real protocol, numpy instead of a model.

It learns a planted linear map per slot and gathers statistics of its own features, so that what the hub makes of its
updates can be computed by hand. Everything that it keeps (`outbox`, `done`) would be on disk in a real agent.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, EdgequiltError
from tests.masked import Masked
from wire import messages as m
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.chunks import Assembly, cut
from wire.envelope import Trust, seal, unseal
from wire.files import digest
from wire.importance.told import KEY as IMPORTANCE
from wire.keys import PrivateKey, PublicKey
from wire.kinds.head import ROWS, Head, Statistics, gather, pick, rows_text
from wire.kinds.lora import Lora, concatenate
from wire.kinds.pairs import Directions, Told
from wire.kinds.scales import Belongs, ScaleFactors
from wire.masks import layout as layouts
from wire.masks import of_b, of_scalars
from wire.masks.told import told_of
from wire.scores import Score
from wire.scores import to_bytes as scores_to_bytes
from wire.topics import device_subscriptions, entry_of, parse_topic, topic_of
from wire.transport import Transport

Train = Callable[[str, Lora], Lora]


def nudge(seed: int) -> Train:
    """A training that moves every factor a little, the same way every time."""

    def train(slot: str, start: Lora) -> Lora:
        g = np.random.default_rng([seed, *slot.encode()])
        a = start.a + 0.1 * g.standard_normal(start.a.shape).astype(np.float32)
        b = start.b + 0.1 * g.standard_normal(start.b.shape).astype(np.float32)
        return Lora(a.astype(np.float32), b.astype(np.float32), start.scale)

    return train


@dataclass
class Sent:
    """An update in the outbox."""

    begin: m.Begin
    data: bytes


@dataclass
class Device:
    """One device of a fleet; call `start`, then let messages flow, and `retry` what got no receipt."""

    name: str
    key: PrivateKey
    hub: PublicKey
    fleet: str
    model: str
    transport: Transport
    rank: int
    features: NDArray[np.float32]
    classes: NDArray[np.int64]
    labels: int
    train: Train
    jobs: tuple[str, ...] = ("train", "spry", "qzo", "statistics", "evaluate", "secure")
    bundle: str = "0" * 64
    holds: frozenset[str] | None = None  # slots of its bundle; None: all of the model's
    boot: str = "boot-1"
    profile: str = "raspberry-pi-5-8gb"
    chunk_bytes: int = 1024
    sequence: int = 0
    versions: dict[str, m.Version] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    pending: dict[str, Assembly] = field(default_factory=dict)
    waiting: dict[str, m.Job] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    outbox: dict[str, Sent] = field(default_factory=dict)
    receipts: list[m.Receipt] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    release: m.Release | None = None
    sent: dict[str, Sent] = field(default_factory=dict)  # everything ever published
    seen: dict[str, m.Job] = field(default_factory=dict)
    knows_trials: bool = True  # an agent of the version before does not
    ignored: int = 0  # messages whose signature does not hold
    jobs_held: bool = False  # asked, but does not begin
    announces: bool = False  # says what it has and waits to be asked, as agents do with what is longer than a chunk
    corrupt: bool = False  # sends bytes that are no adapter
    mislabel: bool = False  # gathers statistics under the wrong labels
    excuse: str = ""  # why it does no job
    bias_moves: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # what its training adds to biases
    scale_moves: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # what its training multiplies scales by
    belongs: dict[str, Belongs] = field(default_factory=dict)
    rests: bool = True  # it knows jobs in which one factor rests
    head_move: float = 0.0  # what its training adds to every number of the head
    metrics: dict[str, Any] = field(default_factory=lambda: {"loss": 0.5})
    importance: str = ""  # what it tells of its slots where a job asks; see wire.importance.told
    masked: Masked = field(default_factory=Masked)

    def start(self) -> None:
        """Connect and say hello."""
        for pattern in device_subscriptions(self.fleet, self.model, self.name):
            self.transport.subscribe(pattern)
        self.transport.start(self.handle, self.connected)

    def connected(self, up: bool) -> None:
        """Say hello after every connect, and send what has no receipt."""
        if up:
            self.hello()
            self.retry()

    def hello(self) -> None:
        number, serves = (-1, "") if self.release is None else (self.release.version, self.release.digest)
        rows, serves = len(self.classes), serves if self.knows_trials else ""
        told = (self.profile, self.bundle, self.rank, self.jobs, rows, number)
        self.say(m.Hello(self.sender(), "numpy", *told, serves=serves))

    def sender(self) -> m.Sender:
        self.sequence += 1
        return m.Sender(self.name, self.boot, self.sequence)

    def say(self, message: object) -> None:
        """Publish a signed message, or a chunk."""
        kind = type(message).TYPE  # type: ignore[attr-defined]  # every message has one
        body = m.encode(message)
        payload = seal(self.key, body) if entry_of("up", kind).signer else body
        self.transport.publish(topic_of(self.fleet, self.model, "up", kind, self.name), payload)

    def handle(self, topic: str, payload: bytes) -> None:
        """Take a message of the hub."""
        address = parse_topic(topic)
        if address is None or address.topic.direction == "up":
            return
        kind = address.topic.message
        if kind is m.Chunk:
            with suppress(BadData):
                self.chunk(m.decode(payload, m.Chunk))
            return
        if kind in (m.HubKeys, m.Standing):
            return  # what agents make of them is theirs to show
        try:
            body, _ = unseal(payload, "hub", Trust([self.hub]), kind.TYPE)
        except EdgequiltError:
            self.ignored += 1
            return
        message = m.decode(body, kind)
        if kind is m.Version:
            self.versions[digest(body)] = message
        else:
            getattr(self, f"on_{kind.TYPE}", self.on_masks)(message)
        self.work()

    def on_release(self, message: m.Release) -> None:
        if self.release is None or message.sequence > self.release.sequence:
            self.release = message

    def on_canary(self, message: m.Canary) -> None:
        if not self.knows_trials:
            return
        self.on_release(m.Release(message.model, message.sequence, message.version, message.digest))
        self.hello()

    def on_job(self, message: m.Job) -> None:
        self.seen[message.job] = message
        if message.job in self.masked.states:
            keys = self.masked.keys(message.job, self.sender())
            if keys is not None:
                self.say(keys)
        elif message.job not in self.done:
            self.waiting[message.job] = message

    def on_cancel(self, message: m.Cancel) -> None:
        self.cancelled.append(message.job)
        self.waiting.pop(message.job, None)

    def on_receipt(self, message: m.Receipt) -> None:
        self.receipts.append(message)
        self.outbox.pop(message.update, None)

    def on_masks(self, message: Any) -> None:
        """Something of a sum under masks."""
        job = self.seen[message.job]
        answer = self.masked.answer(message, self.sender())
        if isinstance(answer, bytes):
            self.publish(job, answer)
        elif answer is not None:
            self.say(answer)

    def on_missing(self, message: m.Missing) -> None:
        if message.update in self.outbox:
            self.send(message.update, () if message.begin else message.indexes)

    def chunk(self, chunk: m.Chunk) -> None:
        assembly = self.pending.get(chunk.blob)
        if assembly is not None and assembly.add(chunk) and not assembly.missing():
            data = assembly.join()
            if data is not None:
                self.blobs[chunk.blob] = data
                del self.pending[chunk.blob]
            self.work()

    def work(self) -> None:
        """Do the jobs whose versions and blobs are here; fetch what is not."""
        for job in list(self.waiting.values()):
            ready = all(v in self.versions and self.has(self.versions[v]) for v in job.versions)
            if not ready or self.jobs_held:
                continue
            del self.waiting[job.job]
            self.done.add(job.job)
            if self.excuse:
                self.say(m.Failed(self.sender(), job.job, self.excuse))
            elif job.settings.get("secure"):
                self.masked.begin(job, self.name, self.vector(job))
                self.on_job(job)
            else:
                self.publish(job)

    def has(self, version: m.Version) -> bool:
        wanted = [(r.blob, r.bytes) for r in version.rungs if r.low < self.rank]
        wanted += [(version.head, version.head_bytes)] if version.head else []
        wanted += [(version.others, version.others_bytes)] if version.others else []
        missing = [(blob, size) for blob, size in wanted if blob not in self.blobs]
        for blob, size in missing:
            if blob not in self.pending:
                self.pending[blob] = Assembly(blob, size)
                self.say(m.Fetch(self.sender(), blob))
        return not missing

    def ladder(self, version: m.Version, rank: int | None = None) -> dict[str, Lora]:
        """The prefix that fits this device, or a shorter one."""
        parts: dict[str, list[Lora]] = {}
        for rung in version.rungs:
            if rung.low < self.rank:
                for slot, piece in read_adapter(self.blobs[rung.blob], "a rung").lora.items():
                    parts.setdefault(slot, []).append(piece)
        mine = parts.keys() if self.holds is None else parts.keys() & self.holds
        return {slot: concatenate(parts[slot]).prefix(min(self.rank, rank or self.rank)) for slot in sorted(mine)}

    def head(self, version: m.Version) -> Head | None:
        return pick(read_adapter(self.blobs[version.head], "heads").heads, self.rank) if version.head else None

    def payload(self, job: m.Job) -> bytes:
        """What a job makes."""
        if self.corrupt:
            return b"\x08 this is no adapter at all"
        base = self.versions[job.versions[0]]
        if job.kind in ("train", "tail"):
            return to_bytes(self.trained(job, base))
        if job.kind == "statistics":
            found = dict.fromkeys(job.settings["ranks"], self.statistics())
            return to_bytes(Adapter(self.model, job.versions[0], statistics=found))
        return scores_to_bytes([self.score(v) for v in job.versions])

    def trained(self, job: m.Job, base: m.Version) -> Adapter:
        """The kinds that the job asks for, and a head if it does."""
        if job.settings.get("trainer") == "spry":
            return Adapter(self.model, job.versions[0], directions=self.steps(job))
        if job.settings.get("trainer") == "qzo":
            return Adapter(self.model, job.versions[0], scales=self.moved(base))
        kinds = job.settings.get("kinds", ["lora"])
        learns = job.settings.get("factors", "both") if self.rests else "both"
        began = self.ladder(base, job.settings.get("rank", self.rank)) if "lora" in kinds else {}
        lora = {slot: self.stepped(slot, start, learns) for slot, start in began.items()}
        old = self.biases(base)
        bias = {n: old.get(n, 0) + moved for n, moved in self.bias_moves.items()} if "bias" in kinds else {}
        heads, metadata = {}, dict[str, str]()
        if job.settings.get("head"):
            shape = self.features.shape[1], self.labels
            start = self.head(base) or Head(np.zeros(shape, np.float32), np.zeros(self.labels, np.float32))
            heads = {self.rank: Head(start.weight + self.head_move, start.bias + self.head_move)}
            metadata = {ROWS: rows_text(np.bincount(self.classes, minlength=self.labels).tolist())}
        metadata |= {IMPORTANCE: self.importance} if job.settings.get("importance") else {}
        return Adapter(self.model, job.versions[0], lora, bias, heads, metadata=metadata)

    def steps(self, job: m.Job) -> Directions:
        """Pairs as forward gradients would give them."""
        count = job.settings["steps"] * job.settings["directions"]
        scalars = np.random.default_rng(len(self.classes)).standard_normal(count).astype(np.float32)
        return Directions(Told(self.rank, job.settings["directions"]), tuple(enumerate(map(float, scalars))))

    def moved(self, version: m.Version) -> ScaleFactors:
        """The version's factors of scales, or ones, times what this device's training makes of them."""
        began = read_adapter(self.blobs[version.others], "others").scales if version.others else None
        held = {} if began is None else began.factors
        arrays = {n: np.asarray(held.get(n, 1.0) * f, np.float32) for n, f in self.scale_moves.items()}
        return ScaleFactors(self.belongs, arrays)

    def stepped(self, slot: str, start: Lora, learns: str) -> Lora:
        """The factors of a slot after training, one of which may rest."""
        made = self.train(slot, start)
        return Lora(start.a if learns == "b" else made.a, start.b if learns == "a" else made.b, made.scale)

    def biases(self, version: m.Version) -> dict[str, NDArray[np.float32]]:
        """The changes of biases of a version."""
        return read_adapter(self.blobs[version.others], "others").bias if version.others else {}

    def statistics(self) -> Statistics:
        classes = (self.classes + 1) % self.labels if self.mislabel else self.classes
        return gather(self.features, classes, self.labels)

    def score(self, version: str) -> Score:
        head = self.head(self.versions[version])
        assert head is not None
        found = (self.features @ head.weight + head.bias).argmax(axis=1)
        count = np.bincount(self.classes, minlength=self.labels)
        correct = np.bincount(self.classes[found == self.classes], minlength=self.labels)
        return Score(version, self.rank, tuple(map(int, count)), tuple(map(int, correct)))

    def vector(self, job: m.Job) -> NDArray[np.float64]:
        """What a job adds to a sum under masks."""
        told, base = told_of(job.settings), self.versions[job.versions[0]]
        assert told is not None
        if job.kind == "statistics":
            ranks = tuple(job.settings["ranks"])
            parts = layouts.from_statistics(dict.fromkeys(ranks, self.statistics()))
            return layouts.of_statistics(ranks, self.labels, self.features.shape[1]).flat(parts)
        if job.settings.get("trainer") == "spry":
            scalars = [d for _, d in self.steps(job).pairs]
            return of_scalars.layout(len(scalars)).flat(of_scalars.arrays(scalars, len(self.classes), told))
        trained, started = self.trained(job, base).lora, self.ladder(base, job.settings.get("rank", self.rank))
        outputs = {slot: w.b.shape[1] for slot, w in started.items()}
        return of_b.layout(outputs, told.width).flat(of_b.arrays(trained, started, len(self.classes), told))

    def publish(self, job: m.Job, masked: bytes = b"") -> None:
        data = masked or self.payload(job)
        kinds: dict[str, m.UpdateKind] = {"train": "adapter", "evaluate": "scores"}
        begin = m.Begin(
            self.sender(),
            digest(data),
            "masked" if masked else kinds.get(job.kind, job.kind),  # type: ignore[arg-type]  # statistics and tail alike
            job.job,
            job.round,
            job.versions[0],
            len(data),
            self.rows(job),
            chunk_bytes=self.chunk_bytes,
            metrics=self.metrics,
        )
        self.outbox[begin.update] = self.sent[begin.update] = Sent(begin, data)
        if self.announces:
            self.say(begin)
            self.say(m.Commit(self.sender(), begin.update))
        else:
            self.send(begin.update, ())

    def rows(self, job: m.Job) -> int:
        """What an update counts for."""
        return len(self.classes)

    def send(self, update: str, indexes: tuple[int, ...]) -> None:
        """Begin, chunks (all or some), commit."""
        sent = self.outbox[update]
        self.say(sent.begin)
        for piece in cut(sent.data, indexes, self.chunk_bytes):
            self.say(piece)
        self.say(m.Commit(self.sender(), update))

    def retry(self) -> None:
        """Beginning and commit again, for what has no receipt; and fetches that got lost."""
        for sent in list(self.outbox.values()):
            self.say(sent.begin)
            self.say(m.Commit(self.sender(), sent.begin.update))
        for blob, assembly in self.pending.items():
            self.say(m.Fetch(self.sender(), blob, assembly.missing()))
