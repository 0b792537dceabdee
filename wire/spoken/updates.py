"""How an update reaches the hub, piece by piece, and how a blob reaches a device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from wire.record import DIGEST, NAME, at_least, matching
from wire.spoken.sender import Sender

CHUNK_BYTES = 65536
UPDATE_LIMIT_BYTES = 64 << 20

UpdateKind = Literal["adapter", "statistics", "scores", "masked", "tail", "edit"]


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
class Fetch:
    """Device: send me these chunks of a blob that a signed version names; no indexes means all."""

    TYPE: ClassVar[str] = "fetch"
    sender: Sender
    blob: str = field(metadata=matching(DIGEST))
    indexes: tuple[int, ...] = ()
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
