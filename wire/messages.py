"""What hub and devices say to each other (docs/messages.md): frozen records, one per type, schema 1 (wire.spoken).

Every message but two travels in a signature envelope. Chunks need none: they are believed only as parts of bytes whose
SHA-256 a signed message has named; nor do `hubkeys`, whose links have signatures of their own. No wall clocks: order
is (boot, sequence).
"""

from __future__ import annotations

from typing import Any, TypeVar

from console.errors import BadData
from wire.pack import pack, unpack
from wire.record import plain, read_record
from wire.spoken.answers import HubKeys, Standing
from wire.spoken.assignments import Assignment, Program
from wire.spoken.jobs import Cancel, Failed, Job, JobKind, ability
from wire.spoken.masks import (
    MaskAgreed,
    MaskKeys,
    MaskOpen,
    MaskReveal,
    MaskRoster,
    MaskSealed,
    MaskShares,
    MaskSurvivors,
)
from wire.spoken.peers import PART_LIMIT_BYTES, STREAM, Crossing, Peer
from wire.spoken.presence import Hello, Presence
from wire.spoken.sender import Sender
from wire.spoken.updates import (
    CHUNK_BYTES,
    UPDATE_LIMIT_BYTES,
    Begin,
    Chunk,
    Commit,
    Fetch,
    Missing,
    Receipt,
    UpdateKind,
)
from wire.spoken.versions import Canary, Edit, Release, Rung, Version

__all__ = [
    "CHUNK_BYTES",
    "MESSAGES",
    "PART_LIMIT_BYTES",
    "SCHEMA",
    "STREAM",
    "UPDATE_LIMIT_BYTES",
    "Assignment",
    "Begin",
    "Canary",
    "Cancel",
    "Chunk",
    "Commit",
    "Crossing",
    "Edit",
    "Failed",
    "Fetch",
    "Hello",
    "HubKeys",
    "Job",
    "JobKind",
    "MaskAgreed",
    "MaskKeys",
    "MaskOpen",
    "MaskReveal",
    "MaskRoster",
    "MaskSealed",
    "MaskShares",
    "MaskSurvivors",
    "Message",
    "Missing",
    "Peer",
    "Presence",
    "Program",
    "Receipt",
    "Release",
    "Rung",
    "Sender",
    "Standing",
    "UpdateKind",
    "Version",
    "ability",
    "decode",
    "encode",
]

SCHEMA = 1

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
        HubKeys,
        Standing,
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
