"""What hub and devices say to each other (docs/messages.md): frozen records, one per type, schema 1.

Every message but a chunk travels in a signature envelope. Chunks need none: they are believed only as parts of
bytes whose SHA-256 a signed message has named. No wall clocks: order is (boot, sequence).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from console.errors import BadData
from wire.pack import pack, unpack
from wire.record import DIGEST, NAME, at_least, matching, plain, read_record

SCHEMA = 1
CHUNK_BYTES = 65536
UPDATE_LIMIT_BYTES = 64 << 20

PART_LIMIT_BYTES = 512 << 10  # of a crossing: two of them on the way stay below every broker's limits
STREAM = r"[0-9a-f]{16}"

UpdateKind = Literal["adapter", "statistics", "scores", "masked", "tail", "edit"]
JobKind = Literal["train", "statistics", "evaluate", "tail", "fix"]


@dataclass(frozen=True)
class Sender:
    """Who speaks, since which start of the program, and the how many-th message since then."""

    device: str = field(metadata=matching(NAME))
    boot: str
    sequence: int = field(metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hello:
    """Device: I am here, this is what I run and hold. Sent at every connect."""

    TYPE: ClassVar[str] = "hello"
    sender: Sender
    agent: str
    profile: str
    bundle: str  # SHA-256 of the manifest that it serves
    rank: int = field(metadata=at_least(0))
    jobs: tuple[str, ...]  # job kinds that it can do, `spry`, `qzo`: by forward passes; `front`: of split ones
    samples: int = field(metadata=at_least(0))
    released: int = field(default=-1)  # the version that it serves; -1 is none
    memory_available_bytes: int | None = None
    runtime: str = ""
    power: str = ""  # mains, battery; empty: it does not know
    battery_percent: int | None = None
    network: str = ""  # wired, wifi, metered; empty: it does not know
    serves: str = ""  # digest of the version that it serves; empty: none, or an older agent that does not say it
    waits: str = ""  # why training waits, as a sentence; empty: it does not
    temperature_c: float | None = None  # of the board's hottest part; None, here and below: it does not know
    under_voltage: bool | None = None  # its power supply is too weak
    throttled: bool | None = None  # it runs slower than it could, for heat or a weak supply
    load: float | None = None  # processes that ran or waited to, mean of a minute
    disk_free_bytes: int | None = None
    uptime_s: float | None = None  # since the board started
    warnings: tuple[str, ...] = ()  # hot, under-voltage, throttled, memory-low, disk-low; others may come
    program: str = ""  # the release of the agent that runs; empty: it does not run from one that can be replaced
    system: str = ""  # what releases it takes: Python, glibc and architecture, in words
    address: str = ""  # HOST:PORT where boards reach this tail without the broker; empty: they do not
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Presence:
    """Device, or the broker on its behalf (last will): online or gone."""

    TYPE: ClassVar[str] = "presence"
    sender: Sender
    state: Literal["online", "offline"]
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Begin:
    """Device: an update of `bytes` bytes follows in chunks; `update` is its SHA-256."""

    TYPE: ClassVar[str] = "begin"
    sender: Sender
    update: str = field(metadata=matching(DIGEST))
    kind: UpdateKind
    job: str
    round: int = field(metadata=at_least(0))
    base: str = field(metadata=matching(DIGEST))  # digest of the version that it started from
    bytes: int = field(metadata=at_least(1, UPDATE_LIMIT_BYTES))
    samples: int = field(metadata=at_least(0))
    chunk_bytes: int = field(default=CHUNK_BYTES, metadata=at_least(1024, 1 << 20))
    metrics: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Commit:
    """Device: all chunks of the update are sent; receipt it or say what is missing."""

    TYPE: ClassVar[str] = "commit"
    sender: Sender
    update: str = field(metadata=matching(DIGEST))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fetch:
    """Device: send me these chunks of a blob that a signed version names; no indexes means all."""

    TYPE: ClassVar[str] = "fetch"
    sender: Sender
    blob: str = field(metadata=matching(DIGEST))
    indexes: tuple[int, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """Device: a job could not be done, and why."""

    TYPE: ClassVar[str] = "failed"
    sender: Sender
    job: str
    reason: str
    peer: str = ""  # who has the other half of a split job, where that one could not; the hub then finds another
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskKeys:
    """Device: my job is done; these are my keys for a sum under masks (wire.masks). The hub relays it as it is."""

    TYPE: ClassVar[str] = "maskkeys"
    sender: Sender
    job: str
    round: int = field(metadata=at_least(0))
    sealing: bytes  # X25519, for what other boards seal to this one
    masking: bytes  # X25519, for the masks of pairs
    commitment: bytes  # SHA-256 of the seed of its own mask
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskShares:
    """Device: shares of my two secrets, each sealed to the board that it is for."""

    TYPE: ClassVar[str] = "maskshares"
    sender: Sender
    job: str
    sealed: dict[str, bytes]  # by whom it is for
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskAgreed:
    """Device: the survivors that I was told, as a tag for each of them that only it can check."""

    TYPE: ClassVar[str] = "maskagreed"
    sender: Sender
    job: str
    tags: dict[str, bytes]  # by whom it is for
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskReveal:
    """Device: my shares of the seeds of boards whose update came, and of the keys of those that dropped out."""

    TYPE: ClassVar[str] = "maskreveal"
    sender: Sender
    job: str
    seeds: dict[str, bytes]  # by whose it is
    keys: dict[str, bytes]
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """Hub: do this. The same job may be sent again; it is done once."""

    TYPE: ClassVar[str] = "job"
    device: str = field(metadata=matching(NAME))
    job: str
    kind: JobKind
    round: int = field(metadata=at_least(0))
    versions: tuple[str, ...]  # digests; the one to start from, or those to evaluate
    settings: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cancel:
    """Hub: the round no longer waits for this job."""

    TYPE: ClassVar[str] = "cancel"
    device: str = field(metadata=matching(NAME))
    job: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Receipt:
    """Hub: the update is journalled on disk and counts once (or never will, and why). The device may forget it."""

    TYPE: ClassVar[str] = "receipt"
    device: str = field(metadata=matching(NAME))
    update: str = field(metadata=matching(DIGEST))
    status: Literal["accepted", "duplicate", "refused"]
    reason: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Missing:
    """Hub: of this update I lack these chunks (or, with `begin`, even its beginning).

    `ranges` are pairs of a first and a last index and count where both are said; agents that do not know them go by
    `indexes`, the first of the same chunks.
    """

    TYPE: ClassVar[str] = "missing"
    device: str = field(metadata=matching(NAME))
    update: str = field(metadata=matching(DIGEST))
    indexes: tuple[int, ...] = ()
    begin: bool = False
    ranges: tuple[tuple[int, ...], ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskRoster:
    """Hub: these boards take part in the sum; share your secrets with them."""

    TYPE: ClassVar[str] = "maskroster"
    device: str = field(metadata=matching(NAME))
    job: str
    keys: dict[str, bytes]  # by device, the envelope of its `maskkeys`
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskSealed:
    """Hub: what these boards sealed to you; mask your update against them, and against nobody else."""

    TYPE: ClassVar[str] = "masksealed"
    device: str = field(metadata=matching(NAME))
    job: str
    sealed: dict[str, bytes]  # by whom it is from
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskSurvivors:
    """Hub: the masked updates of these came, those of the others will not; agree on that with them."""

    TYPE: ClassVar[str] = "masksurvivors"
    device: str = field(metadata=matching(NAME))
    job: str
    survivors: tuple[str, ...]
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskOpen:
    """Hub: these survivors were told the same as you; reveal what opens the sum."""

    TYPE: ClassVar[str] = "maskopen"
    device: str = field(metadata=matching(NAME))
    job: str
    tags: dict[str, bytes]  # by whom it is from
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rung:
    """One piece of a ladder, directions low to high - 1, as an adapter file."""

    low: int = field(metadata=at_least(0))
    high: int = field(metadata=at_least(1))
    blob: str = field(metadata=matching(DIGEST))
    bytes: int = field(metadata=at_least(1))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Edit:
    """A fix of wrong answers: factors on top of the heads, as an adapter file; a version without it is as before."""

    fix: int = field(metadata=at_least(1))  # the number of the round that found it
    blob: str = field(metadata=matching(DIGEST))
    bytes: int = field(metadata=at_least(1))
    extra: dict[str, Any] = field(default_factory=dict)


def ability(kind: str, settings: Mapping[str, Any]) -> str:
    """What of `Hello.jobs` a job needs: its kind, the trainer of forward passes (spry, qzo), or `front` of split ones.

    >>> ability("train", {"trainer": "spry"}), ability("evaluate", {}), ability("train", {"split": {"tail": "barn"}})
    ('spry', 'evaluate', 'front')
    """
    if kind in ("train", "statistics") and settings.get("split"):
        return "front"
    trainer = settings.get("trainer")
    return str(trainer) if kind == "train" and trainer in ("spry", "qzo") else kind


@dataclass(frozen=True)
class Version:
    """Hub: one published state of an adapter. Its digest is the SHA-256 of the body bytes of this message."""

    TYPE: ClassVar[str] = "version"
    model: str = field(metadata=matching(NAME))
    version: int = field(metadata=at_least(0))
    parent: str  # digest of the parent, empty for version 0
    rank: int = field(metadata=at_least(0))
    scale: float
    rungs: tuple[Rung, ...]
    labels: tuple[str, ...]
    head: str = ""  # blob of the head's adapter file; empty while no class is known
    head_bytes: int = 0
    round: int = 0
    others: str = ""  # blob of the other kinds' adapter file, whatever the rank: changes of biases; empty without any
    others_bytes: int = 0
    parents: tuple[str, ...] = ()  # digests of others that updates in it started from, besides `parent`
    optimiser: str = ""  # blob of what the hub's optimiser remembers, of no use to devices; empty without any
    edits: tuple[Edit, ...] = ()  # fixes that are on top of its heads, in the order in which they came
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """Hub: serve this version (it passed the gate, or somebody rolled back to it). A higher `sequence` wins."""

    TYPE: ClassVar[str] = "release"
    model: str = field(metadata=matching(NAME))
    sequence: int = field(metadata=at_least(0))
    version: int = field(metadata=at_least(0))
    digest: str = field(metadata=matching(DIGEST))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Canary:
    """Hub: you serve this version on trial, until a release (or another trial) of a higher `sequence` comes.

    A type of its own, since agents that know only releases must not take another device's trial for one.
    """

    TYPE: ClassVar[str] = "canary"
    device: str = field(metadata=matching(NAME))
    model: str = field(metadata=matching(NAME))
    sequence: int = field(metadata=at_least(0))
    version: int = field(metadata=at_least(0))
    digest: str = field(metadata=matching(DIGEST))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Assignment:
    """Hub: run this bundle; fetch over HTTPS what you lack of it. A higher `sequence` wins, as with releases."""

    TYPE: ClassVar[str] = "bundle"
    device: str = field(metadata=matching(NAME))
    sequence: int = field(metadata=at_least(0))
    model: str = field(metadata=matching(NAME))
    bundle: str = field(metadata=matching(DIGEST))  # SHA-256 of its manifest.json
    where: tuple[str, ...] = ()  # HOST:PORT, in the order to try; without HOST: where the broker is
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """Hub: be this release of the agent; fetch it over HTTPS. A higher `sequence` wins, as with bundles."""

    TYPE: ClassVar[str] = "program"
    device: str = field(metadata=matching(NAME))
    sequence: int = field(metadata=at_least(0))
    release: str = field(metadata=matching(DIGEST))  # SHA-256 of its program.json
    where: tuple[str, ...] = ()  # HOST:PORT, in the order to try; without HOST: where the broker is
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chunk:
    """Either side: bytes `index * chunk_bytes` and on of an update or blob. Not signed: the whole is checked."""

    TYPE: ClassVar[str] = "chunk"
    blob: str = field(metadata=matching(DIGEST))
    index: int = field(metadata=at_least(0, 1 << 16))
    total: int = field(metadata=at_least(1, 1 << 16))
    data: bytes
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Crossing:
    """Device to device: what one half of a split job says to the other, numbers at the border or a few words, in parts.

    Counted from 0 in each direction (`number`, one for each part), taken in order and once, said again until it came.
    """

    TYPE: ClassVar[str] = "crossing"
    sender: Sender
    job: str  # the board's, on both sides
    stream: str = field(metadata=matching(STREAM))  # of the sender, drawn when its half of the job begins
    answers: str = field(metadata=matching(STREAM))  # the stream of the receiver
    number: int = field(metadata=at_least(0))
    what: str = field(metadata=matching(NAME))
    step: int = field(default=0, metadata=at_least(0))
    micro: int = field(default=0, metadata=at_least(0))  # micro-batch of the step
    part: int = field(default=0, metadata=at_least(0))
    parts: int = field(default=1, metadata=at_least(1, 1 << 12))
    fields: dict[str, Any] = field(default_factory=dict)  # with the first part
    data: bytes = b""  # at most 512 KiB of the numbers
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """Device to device: how the stream between the two halves of a split job stands."""

    TYPE: ClassVar[str] = "peer"
    sender: Sender
    job: str
    stream: str = field(metadata=matching(STREAM))
    what: Literal["open", "credit", "here", "proof", "bye"]
    answers: str = ""  # the stream of the receiver; empty: the sender has heard of none
    fields: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


MESSAGES: dict[str, Any] = {
    m.TYPE: m
    for m in (
        Hello,
        Presence,
        Begin,
        Commit,
        Fetch,
        Failed,
        MaskKeys,
        MaskShares,
        MaskAgreed,
        MaskReveal,
        Job,
        Cancel,
        Receipt,
        Missing,
        MaskRoster,
        MaskSealed,
        MaskSurvivors,
        MaskOpen,
        Version,
        Release,
        Canary,
        Assignment,
        Program,
        Chunk,
        Crossing,
        Peer,
    )
}
Message = TypeVar("Message")


def encode(message: Any) -> bytes:
    """The body bytes of a message."""
    return pack({"type": message.TYPE, "schema": SCHEMA, **plain(message)})


def decode(body: bytes, kind: type[Message]) -> Message:
    """Read a message of the type that its topic promises.

    Raises:
        BadData: another type or schema, or fields that are absent or wrong, all named.
    """
    name = kind.TYPE  # type: ignore[attr-defined]  # every message has one
    fields = unpack(body, f"a {name} message")
    if not isinstance(fields, dict) or fields.get("type") != name:
        raise BadData(
            f"expected a {name} message, found "
            f"{str(fields.get('type'))[:40] if isinstance(fields, dict) else type(fields).__name__!r}; it was ignored"
        )
    if fields.get("schema") != SCHEMA:
        found = str(fields.get("schema"))[:40]
        raise BadData(f"expected a {name} message of schema {SCHEMA}, found {found}; update the older side")
    return read_record(kind, {k: v for k, v in fields.items() if k not in ("type", "schema")}, f"a {name} message")
